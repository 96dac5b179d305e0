"""Pages: one on which a network is explored, one that reports on runs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro.conf

from howdeep.commands.output import refuse_existing, remark
from howdeep.explorer.options import ExploreOptions
from howdeep.runs.options import TargetOptions
from howdeep.util.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Explore(ExploreOptions, TargetOptions):
    """Serve a page on which units are taken out of a trained network, and what happens is seen at once."""

    def run(self) -> int:
        """Open the network, print the address, answer until an interrupt."""
        from howdeep.explorer.serve import listen, open_page, serve

        with listen(self.host, self.port) as listener:
            page = open_page(self.open(remark), self, arguments=self.arguments(), report=remark)
            serve(page, listener, host=self.host, report=remark)
        return 0


@dataclass(frozen=True, kw_only=True)
class Report:
    """Write one offline HTML file about runs: the answer, the evidence, the tables."""

    runs: Annotated[
        tyro.conf.Positional[tuple[Path, ...]],
        tyro.conf.arg(metavar="RUN [RUN ...]", help_behavior_hint="(required)"),
    ]
    """Run folders, folders of runs, files that --json wrote."""
    out: Annotated[Path, tyro.conf.arg(metavar="FILE")] = Path("report.html")
    """The page."""
    overwrite: bool = False
    """Replace the page if it exists."""

    def run(self) -> int:
        """Write the page; say what was left out and how large it is."""
        if self.out.suffix not in (".html", ".htm"):
            raise UserError(f"--out {self.out} is not allowed: its name must end in .html")
        refuse_existing(self.out, overwrite=self.overwrite)
        from howdeep.show.report.page import write_report

        size, left_out = write_report(self.runs, self.out)
        for line in left_out:
            remark(line)
        remark(f"{self.out}: {size / 1000:,.0f} kB")
        return 0
