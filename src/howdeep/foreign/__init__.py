"""Weights of others: read a checkpoint without running its code, give every tensor its place in a chain."""

from howdeep.foreign.matching import Match, by_our_names, match
from howdeep.foreign.prefixes import tell_of_others
from howdeep.foreign.reading import read_weights
from howdeep.foreign.sizes import size_told

__all__ = ["Match", "by_our_names", "match", "read_weights", "size_told", "tell_of_others"]
