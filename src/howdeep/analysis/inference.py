"""A trained network at work: on a split of data, on single images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from howdeep.analysis.evaluation import Evaluation, evaluate, fingerprint
from howdeep.data import Normalization, Split, evaluation_batches
from howdeep.data.sampling import sampled
from howdeep.runs.folder import provenance
from howdeep.runs.target import Target, open_data_for, read_images
from howdeep.runtime import device as devices
from howdeep.runtime.threads import Threads, check_threads
from howdeep.runtime.timing import FEW, fastest_threads, threads_of
from howdeep.training.step import Arithmetic, place
from howdeep.util.errors import UserError
from howdeep.util.records import tagged, to_json

PREDICTED_AT_A_TIME = 100


@dataclass(frozen=True)
class Prediction:
    """What a network says of one image."""

    image: str
    """The file."""
    classes: tuple[str, ...]
    """Likeliest first."""
    probabilities: tuple[float, ...]
    """Of those classes."""
    unusable: str | None = None
    """Why the file is no image that the network can read; there are no classes then."""


def evaluate_target(
    target: Target, data: str, *, split: str = "test", limit: int | None = None, seed: int = 0,
    device: str = "auto", precision: str = "fp32", batch_size: int = 500, workers: int = 2, skip_broken: bool = False,
    threads: Threads = "auto", say: Callable[[str], None] = lambda line: None,
) -> tuple[Evaluation, dict]:  # fmt: skip
    """Measure a trained network on a split.

    Args:
        target: The network.
        data: What DATA is on the command line.
        split: ``train``, ``val`` or ``test``.
        limit: Only so many images, a stratified sample.
        seed: By which it is drawn.
        device: Where.
        precision: ``fp32`` or ``bf16``.
        batch_size: Images at a time.
        workers: Processes that decode large images.
        skip_broken: Leave broken images out.
        threads: Threads of the host; ``auto`` takes the number in which passes are fastest.
        say: Receives one line for everything in which the images differ from those of the network's run.

    Returns:
        The evaluation, and the record to write: the evaluation with where it comes from.

    Raises:
        UserError: The data does not fit the network, or it is not known how pixels are normalised.
    """
    if limit is not None and limit < 1:
        raise UserError(f"limit {limit} is not allowed: it must be at least 1")
    if batch_size < 1:
        raise UserError(f"batch-size {batch_size} is not allowed: it must be at least 1")
    check_threads(threads)
    where, arithmetic = devices.pick(device), Arithmetic(precision, "channels_last")
    devices.require_precision(precision, where)
    dataset = open_data_for(target, data, skip_broken=skip_broken, splits=[split], say=say)
    images, which = sampled(dataset, split, limit, seed)
    if which is not None:
        say(str(which))
    batches = evaluation_batches(
        images,
        normalization=required_normalization(target),
        batch_size=batch_size,
        device=where,
        channels_last=True,
        workers=workers,
    )
    chain = place(target.chain, arithmetic, where)
    autocast, few = arithmetic.autocast(where), partial(_few, images, required_normalization(target), where)
    with threads_of(fastest_threads(chain, few, threads, where)):
        found = evaluate(chain, batches, dataset.classes, autocast=autocast, images=fingerprint(images))
        origin = {
            "target": target.name,
            "data": data,
            "split": split,
            "precision": precision,
            "notes": dataset.notes,
            "sample": which and to_json(which),
        }
        return found, tagged("evaluation", {**found.to_json(), **origin, **provenance(where)})


def _few(split: Split, normalization: Normalization, where: torch.device) -> Tensor:
    """Return a few images, on which threads are tried."""
    batches = evaluation_batches(split, normalization=normalization, batch_size=FEW, device=where, channels_last=True)
    return next(batches).images


@torch.inference_mode()
def predict(target: Target, images: Sequence[Path], *, top: int = 3, device: str = "auto") -> list[Prediction]:
    """Return the likeliest classes of image files; a file that cannot be used keeps no other from its answer.

    Raises:
        UserError: Nothing is asked, or it is not known how pixels are normalised, or how large images are.
    """
    if top < 1:
        raise UserError(f"top {top} is not allowed: it must be at least 1")
    if not images:
        raise UserError("no images were named")
    where = devices.pick(device)
    constants, chain = required_normalization(target).to(where), target.chain.to(where)
    found: list[Prediction] = []
    for start in range(0, len(images), PREDICTED_AT_A_TIME):
        paths = images[start : start + PREDICTED_AT_A_TIME]
        read = read_images(paths, target)
        pixels = [one for one in read if not isinstance(one, str)]
        shares = iter(chain(constants(torch.stack(pixels).to(where))).softmax(1) if pixels else ())
        for path, one in zip(paths, read, strict=True):
            bad = isinstance(one, str)
            found.append(Prediction(str(path), (), (), one) if bad else _likeliest(path, next(shares), target, top))
    return found


def _likeliest(path: Path, shares: Tensor, target: Target, top: int) -> Prediction:
    best = shares.topk(min(top, len(shares)))
    names = tuple(target.classes[index] if target.classes else str(index) for index in best.indices.tolist())
    return Prediction(str(path), names, tuple(best.values.tolist()))


def required_normalization(target: Target) -> Normalization:
    """Return how a network's pixels are normalised.

    Raises:
        UserError: Nothing says so.
    """
    if target.normalization is None:
        raise UserError(f"{target.name} does not say how its pixels were normalised: give --mean and --std")
    return target.normalization
