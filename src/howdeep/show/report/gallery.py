"""Images that a network got wrong, where the data of its run is at hand: the surest mistakes, and what a cut lost.

To say that they are the same images, the bytes of all images of the split are read; of many there is no gallery.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from howdeep.analysis.evaluation import MISTAKES, Answers, Evaluation, fingerprint, lost
from howdeep.data.dataset import Split
from howdeep.runs.folder import Run, is_run, open_run
from howdeep.runs.prepared import Prepared
from howdeep.show.tables import all_of
from howdeep.util.errors import UserError
from howdeep.util.records import MALFORMED, from_json
from howdeep.util.text import counted

MANY = 20_000
"""Images of a split beyond which it is not read."""
SIDE, EXACT = 96, 64
"""Pixels of the longer side of a small copy; and those up to which an image is shown pixel by pixel."""


@dataclass(frozen=True)
class Thumbnail:
    """A small image with its line."""

    source: str
    """The image itself, as a ``data:`` URL."""
    caption: str
    """What it shows, and what it was taken for."""


@dataclass(frozen=True)
class Gallery:
    """Some images, and what they have in common."""

    says: str
    """In one sentence."""
    images: tuple[Thumbnail, ...]
    """A few."""


def galleries_of(run: Run, evaluation: Evaluation, split: str) -> tuple[Gallery, ...]:
    """Return what an evaluation of a run got wrong; nothing where its images are not at hand, or are others by now."""
    answers, names = evaluation.answers, [one.name for one in evaluation.classes]
    if answers is None or not (evaluation.mistakes or run.is_cut) or evaluation.n > MANY:
        return ()
    images = _images_of(run, split)
    if images is None or len(images) != evaluation.n or fingerprint(images) != answers.images:
        return ()
    found = []
    if sure := evaluation.mistakes:
        said = [f"{names[one.true]} taken for {names[one.given]}, {one.confidence_percent:.0f} % sure" for one in sure]
        wrong = round(evaluation.n * evaluation.error_percent / 100)
        says = f"The {len(sure)} surest of {counted(wrong, 'mistake')}"
        says = f"{all_of(wrong, wrong, 'mistake')}, the surest first" if len(sure) == wrong else says
        found.append(Gallery(says, _thumbnails(images, [one.image for one in sure], said)))
    before = _answers_before(run)
    if before is not None and before.images == answers.images and (places := lost(before, answers)):
        shown = places[:MISTAKES]
        says = f"{counted(len(places), 'image')} that the network before the cut got right"
        says += f", the first {len(shown)}" * (len(shown) < len(places))
        found.append(Gallery(says, _thumbnails(images, shown, [names[int(images.labels[at])] for at in shown])))
    return tuple(found)


def _images_of(run: Run, split: str) -> Split | None:
    """Return the images of a split, as its run split the data; None where they are elsewhere."""
    source = str(run.record["data"]["source"])
    if source != "digits" and not Path(source).expanduser().exists():
        return None
    try:
        known, seed = run.images(), run.record.get("config", run.record).get("seed", 0)
        prepared = Prepared.of_run(run)
        data = prepared.open(source, seed=seed, skip_broken=True, known=known, splits=[split])
        return data.split(split)
    except (UserError, *MALFORMED):
        return None


def _answers_before(run: Run) -> Answers | None:
    """Return the answers on the test split of the network that a run was cut from, where its folder is still there."""
    place = run.record.get("cut_from")
    if not isinstance(place, str) or not is_run(Path(place)):
        return None
    try:
        test = (open_run(place).result() or {}).get("test")
        return None if test is None else from_json(Evaluation, test).answers
    except (UserError, OSError, *MALFORMED):
        return None


def _thumbnails(images: Split, places: Sequence[int], captions: Sequence[str]) -> tuple[Thumbnail, ...]:
    pixels = images.pixels(torch.tensor(places))
    return tuple(Thumbnail(_url(one), said) for one, said in zip(pixels, captions, strict=True))


def _url(pixels: torch.Tensor) -> str:
    """Return a small copy of an image, uint8 of shape (channels, height, width)."""
    array = pixels.permute(1, 2, 0).numpy()
    image, stream = Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array), io.BytesIO()
    exact = max(image.size) <= EXACT
    image.thumbnail((SIDE, SIDE))
    image.save(stream, "PNG" if exact else "JPEG")
    return f"data:image/{'png' if exact else 'jpeg'};base64,{base64.b64encode(stream.getvalue()).decode()}"
