"""What a run records of itself beside its metrics (``--record flow``). It changes no bit of what is trained."""

import time
from collections.abc import Sequence
from contextlib import nullcontext

import torch

from howdeep.analysis.signals import Flow, draws_of, flow
from howdeep.data.sampling import sample, shuffled
from howdeep.runtime.precision import best_of, measure
from howdeep.runtime.ranks import Ranks
from howdeep.training.feed import SplitFeed
from howdeep.training.log import Log
from howdeep.training.pace import EVENT
from howdeep.training.precision import TrainingSteps
from howdeep.training.session import Session
from howdeep.util.errors import out_of_memory
from howdeep.util.records import to_json

PROBE = 256
"""Training images, a sample that is not augmented, that signal and gradient are measured on."""


def record_epoch(session: Session, log: Log) -> None:
    """Write one event of signal and gradient through the depth, where the run is asked to.

    Process 0 measures and the others wait. What cannot be measured is an event of its own, since a record must not
    stop a run: a signal that is not finite, a lone image that cannot be normalised, memory that ``--checkpointing``
    makes do with and this does not.
    """
    if session.config.record != "flow" or not log.on:
        return
    moment = {"step": session.position.step, "epoch": session.position.step / session.feed.steps_per_epoch}
    try:
        found = _flow(session)
    except (ValueError, RuntimeError, MemoryError) as error:
        if isinstance(error, RuntimeError) and not out_of_memory(error):
            raise
        log.event({"event": "flow_failed", **moment, "reason": str(error)}, f"flow was not recorded: {error}")
    else:
        session.run.log({"event": "flow", **moment, **to_json(found)})


def _flow(session: Session) -> Flow:
    """Measure with batch statistics and draws of the run's own rule.

    Mini-batches are of the images of one process's: batch statistics depend on their number, and memory is known to
    suffice. All are whole, so that statistics are of equally many images, each of a mix of the classes.
    """
    config, share = session.config, max(1, session.recipe.batch_size // session.place.ranks.world)
    feed = session.feed
    assert isinstance(feed, SplitFeed), "what is recorded lies in a run folder"
    size = min(share, feed.images, PROBE)
    count = min(feed.images, PROBE) // size * size
    probe = shuffled(sample(feed.dataset.split("train"), count, config.seed), config.seed)
    batches = feed.evaluation(probe, Ranks(), size)
    # The compiler's limit on recompilations is for training, not for the modes and shapes of the probe.
    with torch.compiler.set_stance("force_eager") if config.compile else nullcontext():
        return flow(
            session.chain,
            batches,
            statistics="batch",
            draws=draws_of(session.rule, len(session.chain), seed=config.seed, batch=size),
            autocast=session.arithmetic.autocast(session.place.device),
        )


BUSY, QUIET, ASKED = "the machine is busy", "the machine is quiet", "--threads"
GAIN = 0.8
"""Another number of threads takes at most this share of the time; what gains less may be noise, and moves every bit."""


def time_again(session: Session, log: Log, counts: Sequence[int], reason: str) -> None:
    """Go on with the number of threads that is clearly the fastest now, on process 0 for all.

    Neither weights nor draws move.

    Args:
        session: The run.
        log: Receives one line and one event where the number changes.
        counts: Numbers to choose from, the one in use among them.
        reason: Why.
    """
    pace, before, started = session.pace, session.pace.threads, time.perf_counter()
    steps = TrainingSteps(
        session.chain, session.feed.shape, session.recipe, session.place.device, session.config.checkpointing
    )
    trials = measure(steps, [session.arithmetic], threads=counts)
    best, in_use = best_of(trials), [trial for trial in trials if trial.threads == before]
    if in_use and best.seconds_per_step > GAIN * in_use[0].seconds_per_step:
        (best,) = in_use
    own = [best.threads, best.seconds_per_step, time.perf_counter() - started]
    threads, expected, timing = session.place.ranks.rows(own)[0]
    pace.settle(int(threads), expected, trained=session.position.seconds, timing=timing)
    if pace.threads != before:
        torch.set_num_threads(pace.threads)
        note_threads(session, log, before, reason)


def note_threads(session: Session, log: Log, before: int, reason: str) -> None:
    """Write the event of another number of threads, from which a resumed run knows what it had."""
    pace, step = session.pace, session.position.step
    record = {"event": EVENT, "step": step, "before": before, "threads": pace.threads}
    record |= {"seconds_per_step": pace.expected, "reason": reason}
    line = f"threads {before} → {pace.threads} at step {step}: {reason}; bits repeat per number of threads"
    log.event(record, line)
