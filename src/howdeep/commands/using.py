"""A trained network at work."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro.conf

from howdeep.analysis.options import EvaluationOptions
from howdeep.commands.options import TargetOptions, check_files
from howdeep.commands.output import Output, refuse_existing, remark
from howdeep.runtime.threads import Threads
from howdeep.util.errors import UserError
from howdeep.util.options import Data, Flat, OptionalFile, OptionalInt


@dataclass(frozen=True, kw_only=True)
class Evaluate(EvaluationOptions, TargetOptions):
    """Measure error, error per class and calibration."""

    figure: OptionalFile = None
    """Draw a chart into this file: .svg, .png or .html."""
    output: Flat[Output] = field(default_factory=Output)

    def run(self) -> int:
        """Measure and print."""
        from howdeep.analysis.inference import evaluate_target
        from howdeep.show import figures
        from howdeep.show.analysis_tables import evaluation_table

        check_files(self.output, self.figure)
        found, record = evaluate_target(self.open(), self, report=remark)
        table = evaluation_table(found, of=f"{self.target} on {self.data}, {self.split}")
        self.output.finish(record, table, figure=self.figure, draw=lambda place: figures.save(found.figure(), place))
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
        found = predict(self.open(), self.images, top=self.top, device=self.device)
        self.output.finish([asdict(prediction) for prediction in found], predictions_table(found))
        unusable = sum(prediction.unusable is not None for prediction in found)
        if unusable:
            remark(f"howdeep: {unusable} of {len(found)} files cannot be used")
        return 1 if unusable else 0


Format = Annotated[
    Literal["onnx", "torch"] | None, tyro.conf.arg(metavar="{onnx,torch}", help_behavior_hint="(default: by ending)")
]


@dataclass(frozen=True, kw_only=True)
class Export(TargetOptions):
    """Write a network as ONNX or .pt2, refused unless it agrees on real images."""

    data: Data
    """digits, an image folder, a Parquet file or folder, or hf:owner/name: images to compare on."""
    out: Annotated[Path, tyro.conf.arg(metavar="FILE")]
    """The file: .onnx, or .pt2 for torch.export."""
    format: Format = None
    """What kind of file."""
    opset: OptionalInt = None
    """Version of ONNX's operators, 18 to 23; without it torch's choice."""
    split: str = "test"
    """train, val or test."""
    limit: int = 256
    """Compare on N images, a stratified sample; at least 256, or all where there are fewer."""
    seed: int = 0
    """Seed of that sample."""
    skip_broken: bool = False
    """Leave broken images out instead of stopping."""
    device: Literal["cpu"] = "cpu"
    """Files are compared and timed on the CPU."""
    output: Flat[Output] = field(default_factory=Output)

    def run(self) -> int:
        """Export, compare, time and print."""
        from howdeep.exporting.export import ExportOptions, export_target

        self.output.check(self.out)
        options = ExportOptions(
            out=self.out, data=self.data, format=self.format, opset=self.opset, split=self.split, limit=self.limit,
            seed=self.seed,
            skip_broken=self.skip_broken,
        )  # fmt: skip
        found, record = export_target(self.open(), options, say=remark)
        self.output.finish(record, found.table())
        return 0


@dataclass(frozen=True, kw_only=True)
class Explore(TargetOptions):
    """Serve a page on which units are taken out of a trained network, and what happens is seen at once."""

    data: Annotated[str | None, tyro.conf.arg(metavar="DATA", help_behavior_hint="(default: the run's own)")] = None
    """digits, an image folder, a Parquet file or folder, or hf:owner/name."""
    port: int = 0
    """Where to listen; 0 takes a free port."""
    host: str = "127.0.0.1"
    """Address to listen on; at any but this one, everybody who reaches it can use the page."""
    split: str = "val"
    """train, val or test: errors are counted on a sample of it."""
    images: int = 256
    """Images of the sample."""
    seed: int = 0
    """Seed by which it is drawn."""
    precision: Literal["fp32", "bf16", "auto"] = "auto"
    """Arithmetic of the activations; auto times both and takes the fastest correct one."""
    threads: Threads = "auto"
    """Threads of the host; auto takes the number in which passes are fastest here."""
    skip_broken: bool = False
    """Leave broken images out instead of stopping."""

    def run(self) -> int:
        """Open the network, print the address, answer until an interrupt."""
        from howdeep.explorer.serve import ExploreOptions, open_page, serve

        target = self.open()
        options = ExploreOptions(
            data=self.data or self._own_data(), arguments=self.arguments(), split=self.split, images=self.images,
            seed=self.seed, precision=self.precision, threads=self.threads, device=self.device,
            skip_broken=self.skip_broken,
        )  # fmt: skip
        serve(open_page(target, options, say=remark), host=self.host, port=self.port, say=remark)
        return 0

    def _own_data(self) -> str:
        """Return the data that a run was trained on."""
        from howdeep.runs.folder import is_run, open_run

        place = Path(self.target)
        if not is_run(place) or "imported" in (record := open_run(place).record):
            raise UserError(f"{self.target} does not say what it was trained on: give --data")
        return record["data"]["source"]

    def arguments(self) -> tuple[str, ...]:
        """Return what says which network this is, as it is typed."""
        options = {"weights": self.weights, "size": self.size, "mean": self.mean, "std": self.std}
        given = [(name, value) for name, value in options.items() if value is not None]
        words = [
            [f"--{name}", *(map(str, value) if isinstance(value, tuple) else [str(value)])] for name, value in given
        ]
        flags = ["--pretrained"] * self.pretrained + ["--skip-broken"] * self.skip_broken
        return (self.target, *(word for part in words for word in part), *flags, "--device", self.device)


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
