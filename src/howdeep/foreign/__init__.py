"""Weights of others: read a checkpoint without running its code, give every tensor its place in a chain."""

from howdeep.foreign.matching import Match, match
from howdeep.foreign.reading import read_weights

__all__ = ["Match", "match", "read_weights"]
