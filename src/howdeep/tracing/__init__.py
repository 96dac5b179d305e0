"""Any network with residual merges as a chain: trace it, find the merges, split it.

Read in this order: ``trace`` (the flat graph), ``simplify`` (no writing in place, no constants to recompute),
``flow`` and ``dominators`` (what all data must pass), ``merges`` and ``plain`` (which of it is a unit), ``parts``
(graph modules), ``split`` (the chain).
"""

from howdeep.tracing.split import unravel

__all__ = ["unravel"]
