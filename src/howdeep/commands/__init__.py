"""The commands: a frozen record of options each, and what it does."""

from howdeep.commands.building import Check, Demo, Import, Networks, Train
from howdeep.commands.dissecting import Flow, Lesion, Paths
from howdeep.commands.exporting import Export
from howdeep.commands.using import Evaluate, Predict

COMMANDS = {
    "demo": Demo,
    "networks": Networks,
    "train": Train,
    "import": Import,
    "evaluate": Evaluate,
    "predict": Predict,
    "lesion": Lesion,
    "paths": Paths,
    "flow": Flow,
    "export": Export,
    "check": Check,
}
Command = Demo | Networks | Train | Import | Evaluate | Predict | Lesion | Paths | Flow | Export | Check
