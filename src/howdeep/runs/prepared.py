"""How images become what a network reads, as far as that is settled before they are seen."""

from collections.abc import Collection
from dataclasses import dataclass

from howdeep.data import Dataset, open_data
from howdeep.data.recorded import Recorded
from howdeep.data.view import Crop
from howdeep.runs.folder import Run


@dataclass(frozen=True)
class Prepared:
    """How images become what a network reads."""

    size: int | None
    """Side in pixels; None leaves it to the images."""
    resize: str
    """What happens to images that are not square."""
    channels: int | None = None
    """1 or 3; None leaves it to the images."""
    bits: int | None = None
    """How many bits the values of 16-bit grayscale images use; None leaves it to the images."""
    crop: Crop | None = None
    """What published weights were evaluated with, where they are used."""

    @classmethod
    def of_run(cls, run: Run) -> "Prepared":
        """Return how the images of a run are prepared; of a network that was made for its data, they say it again."""
        record, data = run.record, run.record["data"]
        if not (record.keys() & {"start", "removed"} or "library" in record["network"]):
            return cls(record["config"]["size"], data["resize"])
        size = data["height"] if data["height"] == data["width"] else None
        return cls(size, data["resize"], data["channels"], data.get("bits"), run.crop)

    def open(
        self,
        data: str,
        *,
        seed: int,
        skip_broken: bool,
        known: Recorded | None,
        identify: bool = False,
        splits: Collection[str] | None = None,
    ) -> Dataset:
        """Return data as the network reads them.

        Args:
            data: What DATA is on the command line.
            seed: Decides which images are held out.
            skip_broken: Leave broken images out.
            known: Images that the network was trained, validated and tested on; they keep their splits.
            identify: Read the bytes of every image now.
            splits: Those that will be used, where not all are (see :func:`howdeep.data.open_data`).

        Raises:
            UserError: They are not usable.
        """
        return open_data(
            data,
            size=self.size,
            resize=self.resize,
            channels=self.channels,
            bits=self.bits,
            crop=self.crop,
            seed=seed,
            skip_broken=skip_broken,
            recorded=known,
            identify=identify,
            splits=splits,
        )
