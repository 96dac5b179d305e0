"""A trained network at work."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import tyro.conf

from howdeep.analysis.options import EvaluationOptions
from howdeep.commands.options import ResultOptions
from howdeep.commands.output import Output, refuse_existing, remark
from howdeep.explorer.options import ExploreOptions
from howdeep.exporting.options import ExportOptions
from howdeep.runs.options import TargetOptions
from howdeep.util.errors import UserError
from howdeep.util.options import Flat


@dataclass(frozen=True, kw_only=True)
class Evaluate(ResultOptions, EvaluationOptions, TargetOptions):
    """Measure error, error per class and calibration."""

    def run(self) -> int:
        """Measure and print."""
        from howdeep.analysis.inference import evaluate_target
        from howdeep.show.analysis_tables import evaluation_table

        self.check_files()
        evaluation, record = evaluate_target(self.open(remark), self, report=remark)
        table = evaluation_table(evaluation, of=f"{self.target} on {self.data}, {self.split}")
        self.finish(record, evaluation, table=table)
        return 0


@dataclass(frozen=True, kw_only=True)
class Predict(TargetOptions):
    """Print the likeliest classes of images."""

    images: Annotated[
        tyro.conf.Positional[tuple[Path, ...]],
        tyro.conf.arg(metavar="IMAGE [IMAGE ...]", help_behavior_hint="(required)"),
    ]
    """Image files."""
    top: int = 3
    """How many classes per image."""
    output: Flat[Output] = field(default_factory=Output)

    def run(self) -> int:
        """Predict and print; the status is 1 where a file could not be used."""
        from howdeep.analysis.inference import predict
        from howdeep.show.analysis_tables import predictions_table

        self.output.check()
        predictions = predict(self.open(remark), self.images, top=self.top, device=self.device)
        self.output.finish([asdict(one) for one in predictions], predictions_table(predictions))
        unusable = sum(one.unusable is not None for one in predictions)
        if unusable:
            remark(f"howdeep: {unusable} of {len(predictions)} files cannot be used")
        return 1 if unusable else 0


@dataclass(frozen=True, kw_only=True)
class Export(ExportOptions, TargetOptions):
    """Write a network as ONNX or .pt2, refused unless it agrees on real images."""

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
