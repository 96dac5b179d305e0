"""The images of a run: how they become what its network reads, and that they stay those that it was begun with."""

from dataclasses import dataclass
from pathlib import Path

from howdeep.data import Dataset, open_data
from howdeep.data.recorded import Recorded, difference, recorded
from howdeep.data.sampling import trainable
from howdeep.data.view import Crop
from howdeep.runs.folder import Run
from howdeep.training.config import TrainConfig
from howdeep.util.errors import UserError
from howdeep.util.text import Report


@dataclass(frozen=True)
class Prepared:
    """How images become what a network reads, as far as that is settled before they are seen."""

    size: int | None
    """Side in pixels; None leaves it to the images."""
    resize: str
    channels: int | None = None
    """1 or 3; None leaves it to the images."""
    bits: int | None = None
    crop: Crop | None = None

    @classmethod
    def of_run(cls, run: Run) -> "Prepared":
        """Return how the images of a run are prepared; of a network that was made for its data, they say it again."""
        record, data = run.record, run.record["data"]
        if not (record.keys() & {"start", "removed"} or "library" in record["network"]):
            return cls(record["config"]["size"], data["resize"])
        size = data["height"] if data["height"] == data["width"] else None
        return cls(size, data["resize"], data["channels"], data.get("bits"), run.crop)


def open_training_data(
    config: TrainConfig,
    images: Recorded | None = None,
    folder: Path | None = None,
    prepared: Prepared | None = None,
) -> Dataset:
    """Return the data of a run, or of other work that trains, with as many training images as are asked for.

    Args:
        config: The options of the run.
        images: Those that it was begun with, if it was; they keep their splits.
        folder: Its folder, where it was begun.
        prepared: How its images become what the network reads, where that is settled; None is by the options.

    Raises:
        UserError: The data are not usable, or not those that were begun with.
    """
    prepared = prepared or Prepared(config.size, config.resize)
    dataset = open_data(
        config.data,
        size=prepared.size,
        resize=prepared.resize,
        channels=prepared.channels,
        bits=prepared.bits,
        crop=prepared.crop,
        seed=config.seed,
        skip_broken=config.skip_broken,
        recorded=images,
        identify=True,
    )
    if folder is not None:
        require_same_images(folder, images, dataset)
    return trainable(dataset, config.limit, config.seed)


def require_same_images(folder: Path, images: Recorded | None, dataset: Dataset) -> None:
    """Refuse to resume with other data than those that were begun with, as that is other work.

    Args:
        folder: That of the work.
        images: What was begun with; None where nothing says so.
        dataset: What is there now.

    Raises:
        UserError: Classes, shape or images differ; one line says in what.
    """
    if images is not None and (changes := difference(images, recorded(dataset))):
        raise UserError(f"{folder} was begun with other data: {changes}; restore them, or name another --out")


def images_of(run: Run, report: Report) -> Recorded:
    """Return the images of a run; of one that does not say which they are, only classes and shape."""
    images = run.images()
    if images is not None:
        return images
    if run.begun:
        report(f"{run.path} does not say which images it was trained on: splits are drawn anew by its seed")
    data = run.record["data"]
    return Recorded(tuple(data["classes"]), (data["channels"], data["height"], data["width"]))
