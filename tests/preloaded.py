"""What a server of forks has read before its first fork, in which no fork looks for garbage."""

import gc
from importlib import import_module

PRELOADED = [
    "howdeep.training.loop",
    "howdeep.commands",
    "howdeep.cli",
    "sklearn.datasets",
    "torch._dynamo",  # what an optimizer imports when it is made, in about three seconds
    "torch.distributed.tensor",
    "tests.runs.workers",
]

gc.disable()
for name in PRELOADED:
    import_module(name)
import_module("tests.quick").install()
import_module("howdeep.data").open_data("digits")
gc.freeze()
gc.set_threshold(20_000)
gc.enable()
