"""From one trained network to a shallower one."""

from dataclasses import dataclass, field

from howdeep.commands.options import TargetOptions, check_files
from howdeep.commands.output import Output, remark
from howdeep.cutting.options import CutOptions
from howdeep.util.options import Flat, OptionalFile


@dataclass(frozen=True, kw_only=True)
class Cut(CutOptions, TargetOptions):
    """Cut a trained network to budgets or by units, or measure every cut; the same command again resumes."""

    figure: OptionalFile = None
    """Draw a chart into this file: .svg, .png or .html."""
    output: Flat[Output] = field(default_factory=Output)

    def run(self) -> int:
        """Cut, print, write and draw."""
        from rich.console import Console

        from howdeep.cutting.run import cut_target
        from howdeep.show import figures
        from howdeep.util.files import file_locked, folder_locked

        check_files(self.output, self.figure)
        beside = self.output.place
        with file_locked(beside) if self.out is None else folder_locked(self.out):
            console = Console(stderr=True)
            result, record, journal = cut_target(self.open(), self, beside=beside, report=remark, console=console)
            self.output.finish(
                record,
                result.table(),
                figure=self.figure,
                draw=lambda place: figures.save(result.figure(), place),
                written=journal.remove,
            )
            if self.out is not None:
                remark(f"{self.out}: the cut network")
        return 0
