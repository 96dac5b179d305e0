"""What a trained network is made into: a shallower one, a file for other programs, a page to explore it, a report."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro.conf

from howdeep.commands.output import Output, ResultOptions, refuse_existing, remark
from howdeep.cutting.options import CutOptions
from howdeep.explorer.options import ExploreOptions
from howdeep.exporting.options import ExportOptions
from howdeep.runs.options import TargetOptions
from howdeep.util.errors import UserError
from howdeep.util.options import Flat


@dataclass(frozen=True, kw_only=True)
class Cut(ResultOptions, CutOptions, TargetOptions):
    """Cut a trained network to a budget, or to its first units.

    Example: howdeep cut run --latency-budget 1ms --out smaller
    """

    def run(self) -> int:
        """Cut, print, write and draw."""
        from rich.console import Console

        from howdeep.cutting.run import cut_target
        from howdeep.util.files import file_locked, folder_locked

        self.check_files()
        beside = self.output.place
        with file_locked(beside) if self.out is None else folder_locked(self.out):
            console = Console(stderr=True)
            result, record, journal = cut_target(self.open(remark), self, beside=beside, report=remark, console=console)
            self.finish(record, result, written=journal.remove)
            if self.out is not None:
                remark(f"{self.out}: the cut network")
        return 0


@dataclass(frozen=True, kw_only=True)
class Export(ExportOptions, TargetOptions):
    """Write ONNX or .pt2, refused unless it agrees on real images.

    Example: howdeep export run --out net.onnx
    """

    output: Flat[Output] = field(default_factory=Output)

    def run(self) -> int:
        """Export, compare, time and print."""
        from howdeep.exporting.export import export_target

        self.output.check(self.out)
        export, record = export_target(self.open(remark), self, report=remark)
        self.output.finish(record, export.table())
        return 0


@dataclass(frozen=True, kw_only=True)
class Explore(ExploreOptions, TargetOptions):
    """Serve a page: take units out and see at once what happens.

    Example: howdeep explore run
    """

    def run(self) -> int:
        """Open the network, print the address, answer until an interrupt."""
        from howdeep.explorer.serve import listen, open_pages, serve

        with listen(self.host, self.port) as listener:
            asked = [self, TargetOptions(target=self.beside, device=self.device)] if self.beside else [self]
            networks = [(one.open(remark), one.arguments()) for one in asked]
            serve(open_pages(networks, self, report=remark), listener, host=self.host, report=remark)
        return 0


@dataclass(frozen=True, kw_only=True)
class Report:
    """Write one offline HTML file: the answer and its evidence.

    Example: howdeep report run --out report.html
    """

    runs: Annotated[
        tyro.conf.Positional[tuple[Path, ...]],
        tyro.conf.arg(metavar="RUN [RUN ...]", help_behavior_hint="(required)"),
    ]
    """Run folders, folders of runs, files that --json wrote."""
    out: Annotated[Path, tyro.conf.arg(metavar="FILE")] = Path("report.html")
    """The page."""
    overwrite: bool = False
    """Replace the page if it exists."""
    latency: bool = True
    """Time all networks where several are compared and records do not tell."""

    def run(self) -> int:
        """Write the page; say what was left out and how large it is."""
        if self.out.suffix not in (".html", ".htm"):
            raise UserError(f"--out {self.out} is not allowed: its name must end in .html")
        refuse_existing(self.out, overwrite=self.overwrite)
        from howdeep.costs.runs import latencies_of
        from howdeep.show.report.page import write_report

        size, left_out = write_report(self.runs, self.out, timed=latencies_of if self.latency else None)
        for line in left_out:
            remark(line)
        remark(f"{self.out}: {size / 1000:,.0f} kB")
        return 0
