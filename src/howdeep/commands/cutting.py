"""From one trained network to a shallower one."""

from dataclasses import dataclass

from howdeep.commands.options import ResultOptions
from howdeep.commands.output import remark
from howdeep.cutting.options import CutOptions
from howdeep.runs.options import TargetOptions


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
