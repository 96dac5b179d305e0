"""Options that several commands share. Torch is imported when a command runs."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro.conf

from howdeep.commands.output import Output, remark
from howdeep.util.options import Flat, OptionalFile, OptionalFloats, OptionalInt, OptionalName

if TYPE_CHECKING:
    from rich.console import RenderableType

    from howdeep.runs.target import Target
    from howdeep.util.records import Shown


def check_files(output: Output, figure: Path | None) -> None:
    """Refuse before anything is measured what could not be written afterwards.

    Raises:
        UserError: As :meth:`Output.check`, or the ending is not that of a chart.
    """
    if figure is not None:
        from howdeep.show.figures import check_ending

        check_ending(figure)
    output.check(figure)


@dataclass(frozen=True, kw_only=True)
class ResultOptions:
    """Where the result of a command goes that has a table and a chart."""

    figure: OptionalFile = None
    """Draw a chart into this file: .svg, .png or .html."""
    output: Flat[Output] = field(default_factory=Output)

    def check_files(self) -> None:
        """Refuse before anything is measured what could not be written afterwards."""
        check_files(self.output, self.figure)

    def finish(
        self,
        data: object,
        record: "Shown",
        *,
        table: "RenderableType | None" = None,
        written: Callable[[], None] = lambda: None,
    ) -> None:
        """Write, draw and print.

        Args:
            data: The record as plain data, with where it comes from.
            record: The record.
            table: What is printed; None is the record's own table.
            written: Called once the result is in its file.
        """
        from howdeep.show import figures

        self.output.finish(
            data,
            record.table() if table is None else table,
            figure=self.figure,
            draw=lambda path: figures.save(record.figure(), path),
            written=written,
        )


@dataclass(frozen=True, kw_only=True)
class TargetOptions:
    """Options of every command that works on a trained network."""

    target: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TARGET")]
    """A run folder; or a name of the catalogue, torchvision:NAME or timm:NAME, with --weights."""
    weights: OptionalFile = None
    """A file of weights, where the target is a name."""
    key: OptionalName = None
    """Which weights of that file, where it holds several, such as state_dict_ema."""
    pretrained: bool = False
    """Published weights of a torchvision or timm network, which the library downloads."""
    size: OptionalInt = None
    """Side in pixels of the images of a torchvision or timm network; without it the published one."""
    mean: OptionalFloats = None
    """Mean per channel, of pixels in [0, 1]; without it the run's own, or the library's."""
    std: OptionalFloats = None
    """Standard deviation per channel; without it the run's own, or the library's."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""

    def open(self) -> "Target":
        """Return the trained network."""
        from howdeep.runs.target import open_target

        return open_target(
            self.target,
            weights=self.weights,
            mean=self.mean,
            std=self.std,
            pretrained=self.pretrained,
            size=self.size,
            key=self.key,
            report=remark,
        )

    def arguments(self) -> tuple[str, ...]:
        """Return what says which network this is, as it is typed."""
        words = [self.target]
        for name in ("weights", "key", "size", "mean", "std"):
            if (value := getattr(self, name)) is not None:
                words += [f"--{name}", *map(str, value if isinstance(value, tuple) else (value,))]
        return (*words, *["--pretrained"] * self.pretrained, "--device", self.device)
