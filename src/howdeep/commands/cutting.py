"""What becomes of a trained network: a shallower one, a file for other runtimes."""

from dataclasses import dataclass, field

from howdeep.commands.output import Output, ResultOptions, remark
from howdeep.cutting.options import CutOptions
from howdeep.exporting.options import ExportOptions
from howdeep.runs.options import TargetOptions
from howdeep.util.options import Flat


@dataclass(frozen=True, kw_only=True)
class Cut(ResultOptions, CutOptions, TargetOptions):
    """Cut a trained network to budgets or by units, or measure every cut; the same command again resumes."""

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
    """Write a network as ONNX or .pt2, refused unless it agrees on real images."""

    output: Flat[Output] = field(default_factory=Output)

    def run(self) -> int:
        """Export, compare, time and print."""
        from howdeep.exporting.export import export_target

        self.output.check(self.out)
        export, record = export_target(self.open(remark), self, report=remark)
        self.output.finish(record, export.table())
        return 0
