"""A ladder of depths."""

from dataclasses import dataclass, field
from pathlib import Path

from howdeep.commands.options import File, Flat, check_files
from howdeep.ladders.config import LadderConfig
from howdeep.output import Output


@dataclass(frozen=True, kw_only=True)
class Degradation:
    """Train families of networks at several depths, and say what keeps the deeper ones from being better."""

    config: Flat[LadderConfig]
    out: Path
    """Folder of the runs; the same command again goes on where it stopped."""
    figure: File = None
    """Draw a chart into this file: .svg, .png or .html."""
    output: Flat[Output] = field(default_factory=Output)

    def run(self) -> int:
        """Train, print a table and the diagnoses, draw a chart."""
        from howdeep import figures
        from howdeep.ladders.degradation import degradation
        from howdeep.ladders.tables import degradation_table

        check_files(self.output, self.figure)
        found = degradation(self.config, self.out)
        self.output.finish(
            found.to_json(self.config), degradation_table(found), figure=self.figure,
            draw=lambda place: figures.save(figures.degradation(found), place),
        )  # fmt: skip
        return 0
