"""Any network as a chain, and any file of weights in its place.

``unravel`` takes a module: ``trace`` (the flat graph), ``modes`` (what training changes; norms and dropout as modules),
``simplify`` (every value written once), ``merges`` (what all data must pass, and which of it is a unit), ``split`` (the
chain of graph modules). Weights: ``reading`` (a file as tensors by name, without running code), ``foreign_names`` (what
these names mean here), ``matching`` (every tensor in its place), ``libraries`` (networks of torchvision, timm and
Hugging Face by name, and what these say of them).
"""

from howdeep.convert.matching import Match, by_our_names, differing_size, match, report_copies
from howdeep.convert.reading import read_weights
from howdeep.convert.split import Unravelled, unravel

__all__ = ["Match", "Unravelled", "by_our_names", "differing_size", "match", "read_weights", "report_copies", "unravel"]
