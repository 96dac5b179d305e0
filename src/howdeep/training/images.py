"""The images of a run, which stay those that it was begun with."""

from pathlib import Path

from howdeep.data import Dataset
from howdeep.data.recorded import Recorded, difference, recorded
from howdeep.data.sampling import trainable
from howdeep.runs.folder import Run
from howdeep.runs.prepared import Prepared
from howdeep.training.config import TrainConfig
from howdeep.util.errors import UserError
from howdeep.util.text import Report


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
    dataset = prepared.open(config.data, seed=config.seed, skip_broken=config.skip_broken, known=images, identify=True)
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
