"""The commands: a frozen record of options each, and what it does."""

from typing import ClassVar, Protocol

from howdeep.commands.analysing import Evaluate, Flow, Lesion, Paths, Predict, Probe
from howdeep.commands.costing import Cost
from howdeep.commands.networks import Check, Import, Networks, Recipes
from howdeep.commands.trained import Cut, Explore, Export, Report
from howdeep.commands.training import Degradation, Demo, Fit, Train

COMMANDS = {
    "demo": Demo,
    "networks": Networks,
    "recipes": Recipes,
    "train": Train,
    "import": Import,
    "evaluate": Evaluate,
    "predict": Predict,
    "lesion": Lesion,
    "paths": Paths,
    "flow": Flow,
    "probe": Probe,
    "cost": Cost,
    "degradation": Degradation,
    "fit": Fit,
    "cut": Cut,
    "export": Export,
    "report": Report,
    "explore": Explore,
    "check": Check,
}
SHARED = ("train", "lesion", "paths", "probe")
"""Commands whose work is divided among the processes of a ``torchrun``; all others want one process."""


class Command(Protocol):
    """What every command is: options, and what is done with them."""

    __dataclass_fields__: ClassVar[dict]

    def run(self) -> int:
        """Do it, and return the exit status."""
        ...
