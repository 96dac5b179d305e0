"""The run folder: what is in it, how it is read and written.

RUN/run.json         written at the start, and again where a finished run is given more epochs: command, options,
                     network, data, normalization, versions, device, choices
RUN/images.parquet   written at the start: which images it trains, validates and tests on (see data/recorded.py)
RUN/metrics.jsonl    one line per epoch and event
RUN/checkpoints/     the last two (see checkpoints.py)
RUN/best/            where the best epoch is kept: its weights, which the run then stands for
RUN/result.json      written at the end: the test error
"""

import json
import shlex
import shutil
import sys
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from howdeep.chain import Chain
from howdeep.convert.libraries import library_network
from howdeep.data import Dataset, Normalization
from howdeep.data.recorded import Recorded
from howdeep.data.view import Crop
from howdeep.networks import Spec, build, spec_from_json, spec_to_json
from howdeep.runs import checkpoints
from howdeep.runs.checkpoints import Checkpoint
from howdeep.runs.listing import BEST, CHECKPOINTS, METRICS, RECORD, RESULT, is_run
from howdeep.runtime import device
from howdeep.survival import Survival
from howdeep.transform.removal import without
from howdeep.transform.truncation import truncated
from howdeep.util.errors import UserError
from howdeep.util.files import NAME as LOCK
from howdeep.util.files import SaveError, append, partial_of, write_whole
from howdeep.util.records import OtherVersionError, read_from, versions
from howdeep.util.text import Report, listed, masked

IMAGES = "images.parquet"


@dataclass(frozen=True)
class Run:
    """A run folder and what its ``run.json`` says."""

    path: Path
    """The folder."""
    record: dict
    """The contents of ``run.json``."""

    @property
    def spec(self) -> Spec:
        """The network."""
        return spec_from_json(self.record["network"])

    @property
    def network_name(self) -> str:
        """The network as a catalogue or a library calls it."""
        network = self.record["network"]
        return str(network.get("name") or network.get("library") or self.path.name)

    @property
    def survival(self) -> Survival:
        """The rule for its gates."""
        return Survival(**self.record["survival"])

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes, in the order of the scores; None where imported weights do not say."""
        names = self.record["data"]["classes"]
        return names and tuple(names)

    @property
    def crop(self) -> Crop | None:
        """What the published weights that it began with were evaluated with."""
        record = self.record["data"].get("crop")
        return record and Crop(**record)

    @property
    def normalization(self) -> Normalization | None:
        """How pixels are normalised; None where imported weights do not say."""
        record = self.record["normalization"]
        return record and Normalization(torch.tensor(record["mean"]), torch.tensor(record["std"]))

    @property
    def checkpoints(self) -> Path:
        """Where its checkpoints are."""
        return self.path / CHECKPOINTS

    @property
    def best(self) -> Path:
        """Where the weights of its best epoch are, if they are kept."""
        return self.path / BEST

    @property
    def begun(self) -> bool:
        """Whether anything was trained: until then, a crash may have kept its images from being written down."""
        return bool(checkpoints.list_checkpoints(self.checkpoints))

    def chain(self, report: Report = warnings.warn) -> Chain:
        """Return the network with the weights of its best epoch, or of the newest whole checkpoint.

        Args:
            report: Receives a line for every checkpoint that is damaged.

        Raises:
            UserError: There is no whole checkpoint.
        """
        saved = self.kept(report) or checkpoints.newest(self.checkpoints, report)
        if saved is None:
            raise UserError(f"{self.path} has no checkpoint yet; train it first")
        chain = self.untrained()
        chain.load_state_dict(saved.network())
        return chain.eval()

    def untrained(self) -> Chain:
        """Return the network with initial weights: that of the catalogue or of a library, without what was cut out.

        Raises:
            UserError: It is a network of a library that is not installed.
        """
        network = self.record["network"]
        if name := network.get("library"):
            size, classes = network["size"], network["classes"]
            library = library_network(name, fresh=True, size=size, classes=classes)
            chain: Chain = library.chain()
        else:
            chain = build(self.spec)
        chain = self.cut_out_of(chain)
        chain.rule = self.survival
        return chain

    @property
    def is_cut(self) -> bool:
        """Whether the network is less than what a catalogue or a library calls so."""
        return bool(self.record.get("removed")) or "first" in self.record

    def cut_out_of(self, chain: Chain) -> Chain:
        """Return what is left of a whole network: units were taken out, then it ended behind the first."""
        if not self.is_cut:
            return chain
        # The cut gave the branches the survival that they had in evaluation.
        chain.rule = Survival(**self.record["folded"]) if "folded" in self.record else None
        rest, first = without(chain, self.record.get("removed", ())), self.record.get("first")
        if first is None:
            return rest
        pooled = first["head"] == "pooled"
        classifier = nn.Linear(first["features"], self.record["network"]["classes"]) if pooled else None
        return truncated(rest, first["units"], classifier)

    def save(self, step: int, *, tensors: Mapping[str, Mapping[str, Tensor]], state: dict) -> None:
        """Write a checkpoint (see :func:`howdeep.runs.checkpoints.save`)."""
        checkpoints.save(self.checkpoints, step, tensors=tensors, state=state)

    def save_best(self, step: int, *, weights: Mapping[str, Tensor], state: dict) -> None:
        """Write the weights of the best epoch, in place of those that were the best before."""
        checkpoints.save_only(self.best, step, tensors={"weights": weights}, state=state)

    def kept(self, report: Report) -> Checkpoint | None:
        """Return the weights of the best epoch; None where none are kept."""
        return checkpoints.newest(self.best, report)

    @property
    def last_good(self) -> str:
        """Which checkpoint there is to go back to, as the user reads it."""
        return checkpoints.last_good(self.checkpoints)

    def images(self) -> Recorded | None:
        """Return the images that it was trained, validated and tested on; None where nothing says which.

        Raises:
            UserError: Their record is damaged.
        """
        return read_images_of(self.path)

    def keep_images(self, images: Recorded) -> None:
        """Write down which images it is trained, validated and tested on.

        Raises:
            SaveError: It could not be written.
        """
        write_whole(self.path / IMAGES, images.to_bytes())

    def result(self) -> dict | None:
        """Return what the finished run measured, or None."""
        path = self.path / RESULT
        return json.loads(path.read_bytes()) if path.exists() else None

    def write_result(self, result: dict) -> None:
        """Write what the finished run measured."""
        write_whole(self.path / RESULT, as_json(result))

    def log(self, record: dict) -> None:
        """Append one line to the metrics.

        Raises:
            SaveError: The disk is full, or the file cannot be written.
        """
        try:
            append(self.path / METRICS, json.dumps(record) + "\n")
        except SaveError as error:
            raise SaveError(f"{error}; {self.last_good}") from error

    def metrics(self) -> list[dict]:
        """Return the lines of the metrics; a last line that a crash cut short is left out."""
        path = self.path / METRICS
        records = []
        for line in path.read_text().splitlines() if path.exists() else ():
            with suppress(ValueError):
                records.append(json.loads(line))
        return records

    def forget_after(self, step: int) -> None:
        """Remove the metrics of later steps, which a resumed run is about to measure again."""
        lines = [json.dumps(record) + "\n" for record in self.metrics() if record["step"] <= step]
        write_whole(self.path / METRICS, "".join(lines).encode())


def create(path: Path, record: dict, images: Recorded | None = None) -> Run:
    """Make a run folder.

    Args:
        path: Where.
        record: The contents of ``run.json``.
        images: What it is trained, validated and tested on; None where nobody knows.

    Raises:
        UserError: There is something else at that place, or it cannot be written.
    """
    check_free(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        write_whole(path / RECORD, as_json(record))
    except OSError as error:
        raise UserError(f"--out {path} cannot be written: {error.strerror or error}") from None
    run = Run(path, record)
    if images is not None:
        run.keep_images(images)
    return run


def extended(run: Run, changes: dict) -> Run:
    """Change the record of a run that resumes with other options; a result that it had is that of a shorter run.

    Raises:
        SaveError: It could not be written.
    """
    (run.path / RESULT).unlink(missing_ok=True)
    record = {**run.record, **changes}
    write_whole(run.path / RECORD, as_json(record))
    return Run(run.path, record)


def forget(path: Path) -> None:
    """Remove a run that holds nothing, but not the folder: whoever made it knows whether it was there before."""
    for name in (METRICS, IMAGES, RECORD):
        (path / name).unlink(missing_ok=True)
    for name in (CHECKPOINTS, BEST):
        shutil.rmtree(path / name, ignore_errors=True)


def check_free(path: Path) -> None:
    """Refuse a place where something else is; a lock, and what a crash left of a half-written record, do not count.

    Raises:
        UserError: It is a file, or a folder that is not empty.
    """
    ours = partial_of(path / RECORD), path / LOCK
    if path.exists() and (not path.is_dir() or any(entry not in ours for entry in path.iterdir())):
        raise UserError(f"--out {path} is not empty and is not a run of howdeep; nothing was changed, name another")


def load(run: str | Path) -> Chain:
    """Return the trained network of a run folder, in evaluation mode on the host (see :meth:`Run.chain`).

    Raises:
        UserError: It is not a run folder, or has no whole checkpoint.
    """
    return open_run(run).chain()


def open_run(path: str | Path) -> Run:
    """Return the run of a folder.

    Raises:
        UserError: It is not a run folder.
    """
    path = Path(path)
    record = path / RECORD
    if not is_run(path):
        raise UserError(f"{path} is not a run folder: there is no {RECORD} in it")
    with read_from(record, "train or import again, into another folder"):
        run = Run(path, json.loads(record.read_bytes()))
        network, data = run.record["network"], run.record["data"]
        # What its entries are is read before anything depends on it.
        described = {"classes", "size" if "library" in network else "channels"}
        for holder, entries in ((network, described), (data, {"source", "resize", "channels", "height", "width"})):
            if missing := sorted(entries - holder.keys()):
                raise OtherVersionError(f"it has no {listed(missing)}")
        _ = "library" in network or run.spec
        _ = run.record.get("config", {"size": None})["size"]
        _ = run.survival, run.classes, run.normalization, run.crop
        return run


def read_images_of(folder: Path) -> Recorded | None:
    """Return the record of images that lies in a folder, or None.

    Raises:
        UserError: It is damaged.
    """
    path = folder / IMAGES
    try:
        return Recorded.from_bytes(path.read_bytes()) if path.is_file() else None
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}") from None


def provenance(where: torch.device) -> dict:
    """Return what a result must carry to be repeated: command, machine, versions of the libraries that are there."""
    return {
        "command": shlex.join(["howdeep", *(masked(word, word) for word in sys.argv[1:])]),
        "versions": versions(),
        "device": {"type": where.type, "name": device.describe(where), "threads": torch.get_num_threads()},
    }


def record_of(
    *,
    spec: Spec | dict,
    survival: Survival,
    data: dict,
    normalization: Normalization | None,
    where: torch.device,
    more: dict,
) -> dict:
    """Return the contents of ``run.json``.

    Args:
        spec: The network; of a library, what ``run.json`` says of it.
        survival: The rule for its gates.
        data: What :func:`data_record` says of the images.
        normalization: How pixels are normalised.
        where: The device.
        more: Whatever else belongs to the run, such as its options.
    """
    constants = normalization and {"mean": normalization.mean.tolist(), "std": normalization.std.tolist()}
    return {
        **provenance(where),
        "network": spec if isinstance(spec, dict) else spec_to_json(spec),
        "survival": asdict(survival),
        "data": data,
        "normalization": constants,
        **more,
    }


def data_record(dataset: Dataset, *, source: str, resize: str, crop: Crop | None) -> dict:
    """Return what ``run.json`` says of the images of a run.

    Args:
        dataset: The images.
        source: What DATA was on the command line.
        resize: What happens to images that are not square.
        crop: What published weights were evaluated with, where they are used.
    """
    names = ("name", "classes", "channels", "height", "width", "bits", "notes")
    record = {"source": source, "resize": resize, **{name: getattr(dataset, name) for name in names}}
    return record if crop is None else {**record, "crop": asdict(crop)}


def as_json(record: dict) -> bytes:
    """Return a record as the files of a run folder hold it."""
    return json.dumps(record, indent=1).encode()
