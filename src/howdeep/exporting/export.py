"""A trained network as one file for other programs, written only where it agrees with the original on real images.

Quantised to int8 it cannot agree: what it gets wrong is measured instead, on the same images.

The file is ONNX or a program of torch.export (.pt2). It reads a batch of any size of prepared images, float32 of shape
(batch, channels, height, width), and returns logits, float32 of shape (batch, classes). Gates are those of evaluation
(p_l), norms are folded into the convolutions before them, and how pixels are prepared stands in the file's metadata.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from howdeep.analysis.study import SplitBatches, prepared
from howdeep.chain import Chain
from howdeep.data import Batch, Dataset
from howdeep.data.loaders import Loader, batches_of
from howdeep.data.normalization import normalization_of
from howdeep.data.sampling import sample, sampled
from howdeep.deploying.formats import FORMATS, Format, Runner, portable_program
from howdeep.deploying.quantizing import CALIBRATION, quantised
from howdeep.exporting.int8 import Int8, int8_of
from howdeep.exporting.options import FEWEST, ExportOptions
from howdeep.runs.folder import provenance
from howdeep.runs.target import Target, data_of, open_data_for, required_normalization
from howdeep.runtime.deployment import THREADS
from howdeep.runtime.modes import evaluating
from howdeep.runtime.timing import SECONDS, by_turns, threads_of
from howdeep.util.errors import UserError, reason
from howdeep.util.files import SaveError, partial_of, write_flushed
from howdeep.util.records import Shown, tagged, to_json

TOLERANCE = 1e-4
"""Largest |exported logit − logit| that counts as rounding, as a share of the largest |logit|.

float32 has 6e-8; sums in another order, and folded norms, make up to 2e-6 of it in the networks of the tests.
"""
TIMED_BATCHES = (1, 32)


@dataclass(frozen=True)
class Latency:
    """How long one batch takes, original and exported by turns."""

    batch: int
    """Images of the batch."""
    runs: int
    """Timed passes of each."""
    original_ms: float
    """Median of the original as this package runs it, in milliseconds."""
    original_quartiles_ms: tuple[float, float]
    """First and third quartile."""
    exported_ms: float
    """Median of the exported file."""
    exported_quartiles_ms: tuple[float, float]
    """First and third quartile."""


@dataclass(frozen=True)
class Agreement:
    """How far exported logits are from the original's."""

    images: int
    """Images that were compared."""
    batch_sizes: tuple[int, ...]
    """Images at a time; the last batch is smaller where they do not divide the images."""
    other_class: int
    """Images that get another class at any batch size."""
    difference: float
    """Largest |exported logit − logit|, as a share of the largest |logit|."""
    tolerance: float | None
    """What of that is allowed; None where the file is quantised, and may differ."""

    @property
    def same_class_percent(self) -> float:
        """Share of the images that get the same class."""
        return 100 * (1 - self.other_class / self.images)


def compared(original: Runner, exported: Runner, batches: Iterable[Batch]) -> Agreement:
    """Return how far exported logits are from the original's, one image at a time and batch by batch.

    Raises:
        UserError: The original's logits are not finite.
    """
    images, other, difference, scale, sizes = 0, 0, 0.0, 0.0, {1: None}
    for batch in batches:
        expected = original(batch.images)
        if not bool(expected.isfinite().all()):
            raise UserError("the network returns logits that are not finite: weights or data are broken")
        sizes[len(expected)] = None
        splits = [batch.images.split(size) for size in (1, len(expected))]
        logits = torch.stack([torch.cat([exported(part.contiguous()) for part in parts]) for parts in splits])
        other += int((logits.argmax(2) != expected.argmax(1)).any(0).sum())
        # The largest of a number and NaN is NaN here, whichever comes first.
        difference = torch.tensor([difference, (logits - expected).abs().max().item()]).max().item()
        scale = max(scale, expected.abs().max().item())
        images += len(expected)
    return Agreement(images, tuple(sizes), other, difference / scale if scale else difference, TOLERANCE)


def timed(original: Runner, exported: Runner, images: Tensor) -> Latency:
    """Return how long a batch takes, original and exported by turns, so that other work disturbs both alike."""
    before, after = images.contiguous(memory_format=torch.channels_last), images.contiguous()
    mine, theirs = by_turns([lambda: original(before), lambda: exported(after)], seconds=SECONDS)
    times = (mine.median_ms, mine.quartiles_ms, theirs.median_ms, theirs.quartiles_ms)
    return Latency(len(images), mine.runs, *times)


BATCH = 48
"""Images at a time in the comparison, beside one at a time."""


PREPROCESSING = "(pixels / 255 - mean) / std"


class ExportError(ArithmeticError):
    """The exported file does not do what the network does; there is no file."""


@dataclass(frozen=True)
class Export(Shown):
    """An exported file, compared with the original and timed beside it."""

    file: str
    """Where it is."""
    format: str
    """``onnx`` or ``torch``."""
    opset: int | None
    """Version of ONNX's operators; None for torch."""
    bytes: int
    """Size of the file."""
    norms_left: int
    """Batch norms of the file: those that no convolution stands directly before."""
    agreement: Agreement
    """On real images."""
    latency: tuple[Latency, ...]
    """By batch size."""
    threads: int
    """Threads of either side in the timing, one: what more of them bring depends on what else runs."""
    runtime: str
    """What ran the file, with its version."""
    metadata: dict
    """What the file says of itself: how pixels are prepared, class names, target, version."""
    notes: tuple[str, ...]
    """Decisions worth printing."""
    int8: Int8 | None = None
    """What a quantised file gets wrong; None where it is not quantised."""


def export_target(
    target: Target, options: ExportOptions, *, report: Callable[[str], None] = lambda line: None
) -> tuple[Export, dict]:
    """Write a trained network into a file that other programs run, checked and timed on the host.

    Args:
        target: The network.
        options: How.
        report: Receives one line for everything in which the images differ from those of the network's run.

    Returns:
        What was written, and the record of it: the same with where it comes from.

    Raises:
        UserError: The data does not fit the network, or the network cannot be exported.
        ExportError: The file disagrees with the network; there is none.
        SaveError: The disk is full, or the folder cannot be written.
    """
    host, data = torch.device("cpu"), data_of(target, options.data)
    dataset = open_data_for(
        target,
        data,
        skip_broken=options.skip_broken,
        splits=[options.split, *["train"] * options.int8],
        report=report,
    )
    split, taken = sampled(dataset, options.split, options.limit, options.seed)
    # The last batch is smaller than the others, so that sizes differ in the comparison.
    size = next(size for size in range(BATCH, 0, -1) if len(split) % size or len(split) < BATCH)
    images = SplitBatches(split, required_normalization(target), size, host)
    notes = [*dataset.notes, *([f"compared on {taken}"] if taken else [])]
    few = [f"compared on all {len(split)} images of {options.split}, fewer than {FEWEST}"]
    calibration = None
    if options.int8:
        calibrating = sample(dataset.split("train"), CALIBRATION, options.seed)
        calibration = SplitBatches(calibrating, images.normalization, BATCH, host)
    found = _exported(target.chain, images, metadata_of(target, dataset), options, calibration)
    export = replace(found, notes=(*notes, *found.notes, *(few if len(split) < FEWEST else [])))
    origin = {
        "target": target.name,
        "data": data,
        "split": options.split,
        "precision": "fp32",
        "sample": taken and to_json(taken),
    }
    return export, tagged("export", {**to_json(export), **origin, **provenance(host)})


def export(
    chain: Chain,
    file: str | Path,
    loader: Loader,
    *,
    opset: int | None = None,
    classes: Sequence[str] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    int8: Loader | None = None,
) -> Export:
    """Write a chain into a file that other programs run, checked and timed on the host; the chain stays as it is.

    Args:
        chain: The network.
        file: ``.onnx``, or ``.pt2`` for torch.export.
        loader: Images to compare on, as the network reads them (see :mod:`howdeep.data.loaders`): the first
            mini-batches that have at least 256, or all.
        opset: Version of ONNX's operators, 18 to 23; None is torch's choice.
        classes: Their names, for the metadata of the file; None calls them by their numbers.
        mean: Subtracted from pixels in [0, 1], per channel, for the metadata; None where nothing says so.
        std: What they are divided by.
        int8: Images by which weights and activations get 8 bits, the first mini-batches that have at least 256; None
            writes float32. The labels of the other loader are then those of the network's classes.

    Raises:
        UserError: The file's name or the loader is not usable, or the network cannot be exported.
        ExportError: The file disagrees with the network; there is none.
        SaveError: The disk is full, or the folder cannot be written.
    """
    options = ExportOptions(out=Path(file), opset=opset, int8=int8 is not None)
    constants = normalization_of(mean, std)
    with evaluating(chain), torch.no_grad():
        images = _first_of(batches_of(chain, loader), FEWEST)
        calibration = None
        if int8 is not None:
            calibration = _first_of(batches_of(chain, int8, name="int8", same_classes=False), CALIBRATION)
        if not images:
            raise UserError("there are no images to compare on")
        outputs = len(chain(images[0].images[:1].to(next(chain.parameters()).device))[0])
    if classes is not None and len(classes) != outputs:
        raise UserError(f"classes has {len(classes)} names: the network returns {outputs} logits")
    count, (_, channels, height, width) = sum(len(one.labels) for one in images), images[0].images.shape
    metadata = {
        "howdeep_version": version("howdeep"),
        "preprocessing": constants and PREPROCESSING,
        "mean": constants and constants.mean.tolist(),
        "std": constants and constants.std.tolist(),
        "channels": channels,
        "height": height,
        "width": width,
        "classes": classes and list(classes),
    }
    found = _exported(chain, images, metadata, options, calibration)
    few = [f"compared on all {count} images of the loader, fewer than {FEWEST}"] if count < FEWEST else []
    return replace(found, notes=(*found.notes, *few))


def _first_of(batches: Iterable[Batch], count: int) -> list[Batch]:
    """Return the first mini-batches that have so many images, on the host."""
    taken: list[Batch] = []
    for batch in batches:
        taken.append(Batch(batch.images.cpu(), batch.labels.cpu(), batch.total))
        if sum(len(one.labels) for one in taken) >= count:
            break
    return taken


def _exported(
    chain: Chain,
    images: Sequence[Batch],
    metadata: dict,
    options: ExportOptions,
    calibration: Sequence[Batch] | None,
) -> Export:
    """Write a network, folded, compare it with itself as it is, and time both; the images lie on the host."""
    first, host = images[0].images, torch.device("cpu")
    folded = prepared(chain, first, precision="fp32", device=host)
    original = prepared(chain, first, precision="fp32", device=host, fold=False, threads="auto")
    program = portable_program(folded.chain, first.shape[1:])
    # The host has no TF32; and torch.onnx reads its switch in a way that raises where `true_fp32` has set it.
    with torch.no_grad(), threads_of(original.threads):
        file = _write(program, original.chain, images, metadata, options, calibration)
    return Export(**file, metadata=metadata, notes=folded.notes)


def metadata_of(target: Target, dataset: Dataset) -> dict:
    """Return what an exported file says of itself; every value can be JSON.

    ``mean`` and ``std`` broadcast to (channels, height, width); pixels are 0 to 255. Of a 16-bit grayscale image they
    are 255 · value / (2^bits − 1), rounded; of any other image ``bits`` says nothing.
    """
    constants = required_normalization(target)
    return {
        "howdeep_version": version("howdeep"),
        "target": target.name,
        "preprocessing": PREPROCESSING,
        "mean": constants.mean.tolist(),
        "std": constants.std.tolist(),
        "channels": dataset.channels,
        "bits": dataset.bits,
        "height": dataset.height,
        "width": dataset.width,
        "resize": target.resize,
        "crop": target.crop and asdict(target.crop),
        "classes": list(target.classes or dataset.classes),
        "classes_from": "target" if target.classes else "data",
    }


def _write(
    program: ExportedProgram,
    original: Runner,
    images: Sequence[Batch],
    metadata: dict,
    options: ExportOptions,
    calibration: Sequence[Batch] | None,
) -> dict[str, Any]:
    """Write the file beside its place, compare and time it, and only then give it its name."""
    out, form, partial = options.out, FORMATS[options.chosen], partial_of(options.out)
    content = form.serialise(program, metadata, options.opset)
    if calibration is not None:
        content = replace(content, data=quantised(content.data, (batch.images for batch in calibration)))
    try:
        _save(partial, content.data, out)
        runner = _loaded(form, partial, out, torch.get_num_threads())
        agreement = compared(original, runner, images)
        if calibration is not None:
            agreement = replace(agreement, tolerance=None)
        _require(agreement, out)
        int8 = None if calibration is None else int8_of(original, runner, images, calibration)
        with threads_of(THREADS):
            exported = _loaded(form, partial, out, THREADS)
            first = images[0].images
            again = first.repeat(-(-max(TIMED_BATCHES) // len(first)), 1, 1, 1)  # the same ones where there are few
            latency = tuple(timed(original, exported, again[:size]) for size in TIMED_BATCHES)
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
    return {
        "file": str(out),
        "format": options.chosen,
        "opset": content.opset,
        "bytes": len(content.data),
        "norms_left": content.norms_left,
        "agreement": agreement,
        "latency": latency,
        "threads": THREADS,
        "runtime": f"{form.runtime} {version(form.runtime)}",
        "int8": int8,
    }


def _save(partial: Path, content: bytes, out: Path) -> None:
    try:
        write_flushed(partial, content)
    except OSError as error:
        raise SaveError(f"{out} was not written: {error.strerror or error}") from error


def _loaded(form: Format, partial: Path, out: Path, threads: int) -> Runner:
    try:
        return form.load(partial, threads)
    except Exception as error:  # each runtime has errors of its own
        raise ExportError(f"{out} was not written: {form.runtime} cannot run it: {reason(error)}") from error


def _require(agreement: Agreement, out: Path) -> None:
    """Refuse a file that disagrees; logits that are not numbers disagree, of a quantised one they alone."""
    if agreement.tolerance is None:
        if not math.isfinite(agreement.difference):
            raise ExportError(f"{out} was not written: in int8 it returns logits that are not numbers")
    elif agreement.other_class or not agreement.difference <= agreement.tolerance:
        raise ExportError(
            f"{out} was not written, it disagrees with the network: another class on {agreement.other_class} of "
            f"{agreement.images} images, logits differ by up to {agreement.difference:.1e} of the largest, allowed are "
            f"{agreement.tolerance:.0e}"
        )
