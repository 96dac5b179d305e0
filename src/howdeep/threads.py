"""Threads of the host: what may be asked for. Which number is fastest, :mod:`howdeep.stopwatch` measures."""

import os
from typing import Annotated, Literal

import tyro.conf

from howdeep.errors import UserError

Threads = Annotated[Literal["auto"] | int, tyro.conf.arg(metavar="auto|N")]
"""So many threads, or ``auto``: what is fastest here."""


def check_threads(asked: Threads) -> None:
    """Refuse what cannot be had.

    Raises:
        UserError: It is not ``auto``, and not 1 to the number of the machine's processors.
    """
    most = os.cpu_count() or 1
    if asked != "auto" and not (isinstance(asked, int) and 1 <= asked <= most):
        raise UserError(f"threads {asked} is not allowed: it must be auto, or 1 to {most} on this machine")
