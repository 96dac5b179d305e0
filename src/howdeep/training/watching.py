"""What a run records of itself beside its metrics (``--record flow``). It changes no bit of what is trained."""

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch

from howdeep.analysis.signals import Flow, draws_of, flow
from howdeep.data import Batch, evaluation_batches
from howdeep.data.sampling import mixed, sample
from howdeep.runtime.precision import best_of, measure
from howdeep.training.log import Journal
from howdeep.training.pace import EVENT
from howdeep.training.precision import TrainingSteps, batch_shape
from howdeep.training.session import Session
from howdeep.util.errors import out_of_memory
from howdeep.util.records import to_json

PROBE = 256
"""Training images, a sample that is not augmented, that signal and gradient are measured on."""


def record_start(session: Session, journal: Journal) -> None:
    """Record the fresh network, unless a start before a crash did: nothing else is written before the first step."""
    if session.position.step == 0 and not session.run.metrics():
        record_epoch(session, journal)


def record_epoch(session: Session, journal: Journal) -> None:
    """Write one event of signal and gradient through the depth, where the run is asked to.

    Process 0 measures and the others wait. What cannot be measured is an event of its own, since a record must not
    stop a run: a signal that is not finite, a lone image that cannot be normalised, memory that ``--checkpointing``
    makes do with and this does not.
    """
    if session.config.record != "flow" or not journal.on:
        return
    moment = {"step": session.position.step, "epoch": session.position.step / session.steps_per_epoch}
    try:
        found = _flow(session)
    except (ValueError, RuntimeError, MemoryError) as error:
        if isinstance(error, RuntimeError) and not out_of_memory(error):
            raise
        journal.event({"event": "flow_failed", **moment, "reason": str(error)}, f"flow was not recorded: {error}")
    else:
        session.run.log({"event": "flow", **moment, **to_json(found)})


def _flow(session: Session) -> Flow:
    """Measure with batch statistics and draws of the run's own rule."""
    size = _probe_size(session)
    with _uncompiled(session):
        return flow(
            session.chain,
            _probe(session, size),
            statistics="batch",
            draws=draws_of(session.rule, len(session.chain), seed=session.config.seed, batch=size),
            autocast=session.arithmetic.autocast(session.place.device),
        )


def _probe_size(session: Session) -> int:
    """Return the images of one process's mini-batch: batch statistics depend on it, and memory is known to suffice."""
    share = max(1, session.recipe.batch_size // session.place.ranks.world)
    return min(share, session.images, PROBE)


def _probe(session: Session, size: int) -> Iterator[Batch]:
    """Yield whole mini-batches only, so that statistics are of equally many images, each of a mix of the classes."""
    seed, count = session.config.seed, min(session.images, PROBE) // size * size
    return evaluation_batches(
        mixed(sample(session.dataset.split("train"), count, seed), seed),
        normalization=session.normalization,
        batch_size=size,
        device=session.place.device,
        channels_last=session.arithmetic.channels_last,
        workers=session.config.workers,
    )


def _uncompiled(session: Session) -> AbstractContextManager:
    """Keep the probe's modes and shapes out of the compiler, whose limit on recompilations training needs itself."""
    return torch.compiler.set_stance("force_eager") if session.config.compile else nullcontext()


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
    shape = batch_shape(session.recipe, session.dataset, session.place.ranks.world)
    steps = TrainingSteps(session.chain, shape, session.recipe, session.place.device, session.config.checkpointing)
    best = best_of(measure(steps, [session.arithmetic], threads=counts))
    own = [best.threads, best.seconds_per_step, time.perf_counter() - started]
    threads, expected, timing = session.place.ranks.rows(own)[0]
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
