"""Threads are timed again while a run trains, where its steps have become slow or it may have more of them again."""

import time
from collections.abc import Sequence

import torch

from howdeep.training.choices import batch_shape
from howdeep.training.journal import Journal
from howdeep.training.pace import EVENT
from howdeep.training.precision import best_of, measure
from howdeep.training.session import Session

BUSY, QUIET, ASKED = "the machine is busy", "the machine is quiet again", "--threads"


def time_again(session: Session, journal: Journal, counts: Sequence[int], reason: str) -> None:
    """Go on with the number of threads that is the fastest now, on process 0 for all; neither weights nor draws move.

    Args:
        session: The run.
        journal: Receives one line and one event where the number changes.
        counts: Numbers to choose from, the one in use among them.
        reason: Why.
    """
    pace, before, started = session.pace, session.pace.threads, time.perf_counter()
    trials = measure(
        session.chain, batch_shape(session.recipe, session.dataset, session.ranks), session.recipe,
        [session.arithmetic], memory=session.config.memory, device=session.device, threads=counts,
    )  # fmt: skip
    best = best_of(trials)
    own = [best.threads, best.seconds_per_step, time.perf_counter() - started]
    threads, expected, timing = session.ranks.rows(own)[0]
    pace.settle(int(threads), expected, trained=session.position.seconds, timing=timing)
    if pace.threads != before:
        torch.set_num_threads(pace.threads)
        note_threads(session, journal, before, reason)


def note_threads(session: Session, journal: Journal, before: int, reason: str) -> None:
    """Write the event of another number of threads, from which a resumed run knows what it had."""
    pace, step = session.pace, session.position.step
    record = {"event": EVENT, "step": step, "before": before, "threads": pace.threads,
              "seconds_per_step": pace.expected, "reason": reason}  # fmt: skip
    journal.event(
        record, f"threads {before} → {pace.threads} at step {step}: {reason}; bits repeat per number of threads"
    )
