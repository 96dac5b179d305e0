"""A trained network at work: on a split of data, on single images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from howdeep.analysis.evaluation import Evaluation, evaluate, fingerprint
from howdeep.analysis.options import EvaluationOptions
from howdeep.analysis.views import require_views
from howdeep.data import evaluation_batches
from howdeep.data.augmentation import may_flip
from howdeep.data.sampling import sampled
from howdeep.runs.folder import provenance
from howdeep.runs.target import Target, data_of, note_doubt, open_data_for, read_images, required_normalization
from howdeep.runtime import device as devices
from howdeep.runtime.parts import passed
from howdeep.runtime.precision import Arithmetic, place, require_precision
from howdeep.runtime.timing import FEW, fastest_threads, threads_of
from howdeep.transform.folding import folding_norms
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
    target: Target, options: EvaluationOptions, *, report: Callable[[str], None] = lambda line: None
) -> tuple[Evaluation, dict]:
    """Measure a trained network on a split.

    Args:
        target: The network.
        options: On which images, and how.
        report: Receives one line for everything in which the images differ from those of the network's run.

    Returns:
        The evaluation, and the record to write: the evaluation with where it comes from.

    Raises:
        UserError: The data does not fit the network, or it is not known how pixels are normalised.
    """
    device, arithmetic = devices.pick(options.device), Arithmetic(options.precision, "channels_last")
    require_precision(options.precision, device)
    require_views(options.views, flip=options.flip != "no")
    data, split = data_of(target, options.data), options.split
    dataset = open_data_for(target, data, skip_broken=options.skip_broken, splits=[split], report=report)
    note_doubt(target, split, report)
    images, sample = sampled(dataset, split, options.limit, options.seed)
    if sample is not None:
        report(str(sample))
    normalization = required_normalization(target)
    batches = evaluation_batches(
        images,
        normalization=normalization,
        batch_size=options.batch_size,
        device=device,
        channels_last=True,
        workers=options.workers,
    )
    chain = place(target.chain, arithmetic, device)
    some = evaluation_batches(images, normalization=normalization, batch_size=FEW, device=device, channels_last=True)
    with threads_of(fastest_threads(chain, lambda: next(iter(some)).images, options.threads, device)):
        evaluation = evaluate(
            chain,
            batches,
            dataset.classes,
            autocast=arithmetic.autocast(device),
            images=fingerprint(images),
            views=options.views,
            flip=may_flip(dataset.classes, options.flip),
        )
        origin = {
            "target": target.name,
            "data": data,
            "split": split,
            "precision": options.precision,
            "notes": dataset.notes,
            "sample": sample and to_json(sample),
        }
        return evaluation, tagged("evaluation", {**evaluation.to_json(), **origin, **provenance(device)})


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
    constants, chain = required_normalization(target).to(where), folding_norms(target.chain.to(where))
    predictions: list[Prediction] = []
    for start in range(0, len(images), PREDICTED_AT_A_TIME):
        paths = images[start : start + PREDICTED_AT_A_TIME]
        read = read_images(paths, target)
        pixels = [one for one in read if not isinstance(one, str)]
        shares = iter(passed(chain, constants(torch.stack(pixels).to(where))).softmax(1) if pixels else torch.empty(0))
        for path, one in zip(paths, read, strict=True):
            if isinstance(one, str):
                predictions.append(Prediction(str(path), (), (), one))
                continue
            of_image = next(shares)
            best = of_image.topk(min(top, len(of_image)))
            names = tuple(target.classes[index] if target.classes else str(index) for index in best.indices.tolist())
            predictions.append(Prediction(str(path), names, tuple(best.values.tolist())))
    return predictions
