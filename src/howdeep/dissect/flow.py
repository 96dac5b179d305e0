"""Signal and gradient through the depth; it lives in :mod:`howdeep.signals`, above training, which records it."""

from howdeep.signals import DRAWS, Flow, Statistics, UnitFlow, draws_of, flow, recorded_flow

__all__ = ["DRAWS", "Flow", "Statistics", "UnitFlow", "draws_of", "flow", "recorded_flow"]
