"""TARGET: the trained network that a command works on, and how its images must be prepared."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

import torch
from torch import Tensor

from howdeep.chain import Chain
from howdeep.convert.libraries import ClassNames, LibraryNetwork, is_library_name, library_network, published_as
from howdeep.data import Dataset, Normalization, open_data
from howdeep.data.decoding import WHOLE_BITS, BadImage, quiet_pillow, read_header
from howdeep.data.images import open_regular
from howdeep.data.normalization import normalization_of, per_channel
from howdeep.data.recorded import class_changes, renumbered
from howdeep.data.view import Crop, View
from howdeep.networks import build, spec_of, spec_to_json
from howdeep.networks.catalogue import LITERATURE, is_name
from howdeep.networks.residual import Block, Shortcut
from howdeep.runs import folder as runs
from howdeep.runs.foreign import read_network, usual_size
from howdeep.runs.listing import runs_below
from howdeep.runs.options import TargetOptions
from howdeep.runs.prepared import Prepared
from howdeep.survival import Survival
from howdeep.util.errors import UserError
from howdeep.util.text import Report, first_few


@dataclass(frozen=True)
class Target:
    """A trained network."""

    name: str
    """What the user called it."""
    chain: Chain
    """The network, in evaluation mode, on the host."""
    rule: Survival | None
    """The rule for its gates in training; None where that is not known."""
    outputs: int
    """How many scores it gives."""
    classes: tuple[str, ...] | None
    """Names of its classes; None where only their number is known."""
    channels: int
    """Channels of its images."""
    size: tuple[int, int] | None
    """Height and width of the images that it was trained on; None where nothing says so."""
    resize: str
    """What happens to images that are not square."""
    normalization: Normalization | None
    """How its pixels are normalised; None where the data must say it."""
    crop: Crop | None = None
    """What published weights were evaluated with, where they are used."""
    names: ClassNames | None = None
    """Other names by which data may call the classes of published weights."""
    bits: int | None = None
    """How many bits the values of 16-bit grayscale images are taken to use; None where the data must say it."""
    network: dict | None = None
    """What ``run.json`` says of a network, from which it can be built again: its spec, or its name in a library."""
    removed: tuple[int, ...] = ()
    """Units of that network that were cut out, counted from 0."""
    seed: int = 0
    """Seed by which images were held out in training, where the data has no splits of its own."""
    run: runs.Run | None = None
    """The run folder that it comes from; None for weights of elsewhere."""
    drop_path: float = 0.0
    """The highest probability with which its library closes a branch in training."""

    @property
    def side(self) -> int | None:
        """Height and width of its images where they are square; None where they are not, or nothing says so."""
        return self.size[0] if self.size and self.size[0] == self.size[1] else None

    @property
    def imported(self) -> bool:
        """Whether its weights come from elsewhere, so that nothing says what they were trained on."""
        return self.run is None or "imported" in self.run.record

    @property
    def prepared(self) -> Prepared:
        """How its images are prepared."""
        return Prepared(self.side, self.resize, self.channels, self.bits, self.crop)

    def view(self, height: int, width: int) -> View:
        """Return how an image becomes one of this size that the network reads."""
        return View(self.channels, height, width, self.resize, self.bits or WHOLE_BITS, self.crop)


def open_target(
    options: TargetOptions, *, block: Block | None = None, shortcut: Shortcut | None = None, report: Report
) -> Target:
    """Return a trained network.

    Args:
        options: Which one, and how its images are prepared.
        block: Basic or bottleneck, of a name of the catalogue; None is the literature's.
        shortcut: A, B or C, of a name of the catalogue; None is the literature's.
        report: Receives one line per damaged checkpoint that is passed over, and for whatever of a file was left.

    Raises:
        UserError: There is no such target, or it lacks something.
    """
    name, weights, key, size = options.target, options.weights, options.key, options.size
    if key is not None and weights is None:
        raise UserError(f"--key {key} is not allowed without --weights: it says which weights of that file are meant")
    if is_library_name(name):
        given = normalization_of(options.mean, options.std, 3)
        library = library_network(
            name, weights=weights, pretrained=options.pretrained, size=size, fresh=False, key=key, report=report
        )
        if weights is not None:
            report(f"{name}: images are prepared as for its published weights: {library.published.preparation}")
        return _library_target(library, given)
    if options.pretrained or size is not None:
        option = "--pretrained" if options.pretrained else f"--size {size}"
        raise UserError(
            f"{option} is not allowed for {name}: it is meant for torchvision:NAME, timm:NAME and hf-model:NAME"
        )
    if runs.is_run(Path(name)):
        if weights is not None:
            raise UserError(f"--weights {weights} is not allowed with the run folder {name}: it has its own")
        target = run_target(runs.open_run(name), report)
        given = normalization_of(options.mean, options.std, target.channels)
        return replace(target, normalization=given or target.normalization)
    if "/" in name or not is_name(name) or Path(name).exists():
        raise _no_target(Path(name))
    spec_of(name)
    if weights is None:
        raise UserError(f"{name} needs weights: --weights FILE; or name a run folder")
    spec, chain, _ = read_network(name, weights, key=key, block=block, shortcut=shortcut, report=report)
    return Target(
        name=name,
        chain=chain.eval(),
        rule=None,
        outputs=spec.classes,
        classes=None,
        channels=spec.channels,
        size=usual_size(spec),
        resize="crop",
        normalization=normalization_of(options.mean, options.std, spec.channels),
        network=spec_to_json(spec),
    )


def _no_target(path: Path) -> UserError:
    """Return the error for what is neither a run folder nor a network, with the runs that may be meant."""
    if path.is_dir():
        inside = [str(run) for run in runs_below(path)]
        held = f"it holds runs, name one: {first_few(inside)}" if inside else f"there is no {runs.RECORD} in it"
        return UserError(f"{path} is not a run folder: {held}")
    if path.exists():
        return UserError(f"{path} is a file, not a run folder")
    beside = [str(run) for run in runs_below(path.parent, 0)] if path.parent.is_dir() else []
    nearest = get_close_matches(str(path), [*beside, *LITERATURE], n=3, cutoff=0.5)
    what = "run folder" if len(path.parts) > 1 else "folder or network"
    hint = f"did you mean {' or '.join(nearest)}?" if nearest else "howdeep runs lists runs, howdeep networks networks"
    return UserError(f"no {what} {str(path)!r}; {hint}")


def fresh_target(options: TargetOptions, data: str, *, seed: int, skip_broken: bool) -> Target:
    """Return a network with its initial weights, for looking at what depth does before training.

    Args:
        options: Which one: a name of the catalogue, ``timm:NAME``, ``torchvision:NAME`` or ``hf-model:owner/name``.
        data: What DATA is on the command line; it says the classes and, where the options do not, how its pixels are
            normalised.
        seed: Seed of the weights.
        skip_broken: Leave broken images out.

    Raises:
        UserError: There is no such network.
    """
    name, size = options.target, options.size
    if is_library_name(name):
        torch.manual_seed(seed)
        classes = len(open_data(data, skip_broken=skip_broken).classes)
        library = library_network(name, fresh=True, size=size, classes=classes)
        # Nothing of the published weights is used, and neither is how images were prepared for them.
        target = replace(_library_target(library, None), classes=None, names=None, crop=None)
        dataset = open_data_for(target, data, skip_broken=skip_broken)
    else:
        dataset = open_data(data, size=size, skip_broken=skip_broken)
        spec = spec_of(name, classes=len(dataset.classes), channels=dataset.channels)
        chain = build(spec, seed=seed).eval()
        target = Target(
            name, chain, None, spec.classes, None, spec.channels, (dataset.height, dataset.width), "crop", None
        )
    split = next(split for split in (dataset.train, dataset.test, dataset.validation) if split is not None)
    normalization = normalization_of(options.mean, options.std, dataset.channels) or per_channel(split)
    return replace(target, bits=dataset.bits, normalization=normalization)


def required_normalization(target: Target) -> Normalization:
    """Return how a network's pixels are normalised.

    Raises:
        UserError: Nothing says so.
    """
    if target.normalization is None:
        raise UserError(f"{target.name} does not say how its pixels were normalised: give --mean and --std")
    return target.normalization


def note_doubt(target: Target, split: str, report: Report) -> None:
    """Report where the images of a split may be among those that a network was trained on, whose errors are too low.

    Nothing says so of imported weights; images of a test split are taken not to be among theirs.
    """
    if target.imported and split != "test":
        may = f"those of {split} may be among them, and have fewer errors than others"
        report(f"{target.name} does not say which images it was trained on: {may}")


def data_of(target: Target, asked: str | None) -> str:
    """Return the data that were asked for, else those that the network was trained on.

    Raises:
        UserError: Nothing says what it was trained on, or that is no longer where it was.
    """
    if asked is not None:
        return asked
    if target.imported:
        raise UserError(f"{target.name} does not say what it was trained on: give --data")
    assert target.run is not None
    source = str(target.run.record["data"]["source"])
    if source != "digits" and not source.startswith("hf:") and not Path(source).expanduser().exists():
        raise UserError(f"{target.name} was trained on {source}, and there is no such data here: give --data")
    return source


def open_data_for(
    target: Target,
    data: str,
    *,
    skip_broken: bool,
    splits: Collection[str] | None = None,
    same_classes: bool = True,
    report: Report = lambda line: None,
) -> Dataset:
    """Return data in the shape that a network was trained on, its classes numbered as the network numbers them.

    No image that the network was trained on is in the validation or test split, whatever data these are.

    Args:
        target: The network.
        data: What DATA is on the command line.
        skip_broken: Leave broken images out.
        splits: Those that will be used, where not all are (see :func:`howdeep.data.open_data`).
        same_classes: The classes must be the network's; else they are those of the data and numbered as there, for
            work that gives the network a classifier of its own.
        report: Receives the notes on the data, among them in what the images differ from those of the network's run.

    Raises:
        UserError: The classes or the shape are not those of the network.
    """
    known = target.run.images() if target.run else None
    dataset = target.prepared.open(data, seed=target.seed, skip_broken=skip_broken, known=known, splits=splits)
    if target.size is not None and target.run and (dataset.height, dataset.width) != target.size:
        here, there = (f"{height}×{width}" for height, width in ((dataset.height, dataset.width), target.size))
        raise UserError(f"the images of {data} are of {here} pixels and those of {target.name} were of {there}")
    if target.run is not None and known is None and target.classes is not None:
        said = f"{target.name} does not say which images it was trained on: splits are drawn anew by its seed"
        dataset = replace(dataset, notes=(*dataset.notes, said), changes=(said,))
    dataset = _as_numbered(target, dataset, data) if same_classes else dataset
    for line in dataset.notes:
        report(line)
    return dataset


def _as_numbered(target: Target, dataset: Dataset, data: str) -> Dataset:
    """Return data whose labels count the classes as a network does.

    Raises:
        UserError: The classes are others.
    """
    if target.names is not None and target.classes is not None:
        if (order := target.names.order(dataset.classes)) is not None:
            return renumbered(dataset, target.classes, order)
        if len(dataset.classes) == target.outputs:  # names that nobody here knows: taken to be in the network's order
            return dataset
        strange = [name for name in dataset.classes if target.names.order((name,)) is None]
        which = f"{strange[0]!r} is none of them" if strange else "two of its names mean one of them"
        here = f"{data} has {len(dataset.classes):,} classes"
        raise UserError(f"{here} and {target.name} was trained on {target.outputs:,}: {which}")
    if len(dataset.classes) != target.outputs and target.classes is None:
        raise UserError(f"{data} has {len(dataset.classes)} classes and {target.name} was trained on {target.outputs}")
    if target.classes is None or target.classes == dataset.classes:
        return dataset
    if said := class_changes(target.classes, dataset.classes):
        raise UserError(f"{data} has other classes than {target.name}: {said}")
    return renumbered(dataset, target.classes)


def read_images(paths: Sequence[Path], target: Target) -> list[Tensor | str]:
    """Return image files as a network reads them, uint8 of shape (channels, height, width); or why one cannot be used.

    Raises:
        UserError: The target does not say the size of its images.
    """
    if target.size is None:
        raise UserError(f"{target.name} does not say the size of its images; give --size")
    view = target.view(*target.size)
    with quiet_pillow():
        return [_read(path, view) for path in paths]


def _read(path: Path, view: View) -> Tensor | str:
    try:
        with open_regular(path) as stream:
            peak = read_header(stream).peak
            if peak is not None and peak >= 2**view.bits:
                return f"unsupported: values of more than the {view.bits} bits that the network was trained on"
            return torch.tensor(view.read(stream))
    except BadImage as error:
        return str(error)


def run_target(run: runs.Run, report: Report) -> Target:
    """Return the network of a run folder."""
    data, library = run.record["data"], run.record["network"].get("library")
    # Imported weights of a library's network: what they call their classes, their library knows.
    names = published_as(library).names() if library and "imported" in run.record else None
    known = names if names is not None and len(names.shown) == run.record["network"]["classes"] else None
    return Target(
        name=str(run.path),
        chain=run.chain(report),
        rule=run.survival,
        outputs=run.record["network"]["classes"],
        classes=run.classes or (known and known.shown),
        names=known,
        channels=data["channels"],
        size=(data["height"], data["width"]),
        resize=data["resize"],
        crop=run.crop,
        bits=data.get("bits", None if "imported" in run.record else WHOLE_BITS),
        normalization=run.normalization,
        network=run.record["network"],
        removed=tuple(run.record.get("removed", ())),
        seed=run.record.get("config", run.record).get("seed", 0),
        run=run,
    )


def _library_target(network: LibraryNetwork, given: Normalization | None) -> Target:
    names, published, chain = network.names, network.published, network.chain()
    return Target(
        name=network.name,
        chain=chain,
        rule=None,
        outputs=network.classes,
        classes=names and names.shown,
        names=names,
        channels=3,
        size=(network.size, network.size),
        resize="crop",
        crop=published.crop,
        normalization=given or normalization_of(published.mean, published.std),
        network=network.record,
        drop_path=chain.modes.drop_path,
    )
