"""The commands: a frozen record of options each, and what it does."""

from typing import ClassVar, Protocol

from howdeep.commands.analysing import Evaluate, Flow, Lesion, Paths, Predict, Probe
from howdeep.commands.costing import Cost
from howdeep.commands.listing import Completion, Runs
from howdeep.commands.networks import Check, Import, Networks, Recipes
from howdeep.commands.trained import Cut, Explore, Export, Report
from howdeep.commands.training import Degradation, Demo, Fit, Train

GROUPS: dict[str, dict[str, type]] = {
    "start": {"demo": Demo, "check": Check, "networks": Networks, "recipes": Recipes, "runs": Runs},
    "train": {"train": Train, "import": Import, "degradation": Degradation},
    "understand": {
        "evaluate": Evaluate,
        "predict": Predict,
        "lesion": Lesion,
        "paths": Paths,
        "flow": Flow,
        "explore": Explore,
    },
    "decide": {"fit": Fit, "probe": Probe, "cost": Cost, "cut": Cut},
    "hand over": {"export": Export, "report": Report, "completion": Completion},
}
"""What one does with the package, and the commands for it."""
COMMANDS = {name: command for group in GROUPS.values() for name, command in group.items()}
SHARED = ("train", "lesion", "paths", "probe")
"""Commands whose work is divided among the processes of a ``torchrun``; all others want one process."""


class Command(Protocol):
    """What every command is: options, and what is done with them."""

    __dataclass_fields__: ClassVar[dict]

    def run(self) -> int:
        """Do it, and return the exit status."""
        ...
