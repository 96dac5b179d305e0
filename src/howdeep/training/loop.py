"""The training loop.

    for every mini-batch:   gates ~ rule(seed, step)     lr = schedule(step)     one step     step + 1
    after every epoch:      validate, log one line, save a checkpoint if that is worth its time
    at the end:             read the test split once

The step is the only clock: the order of images, augmentation, gates, dropout and learning rate are functions of the
seed and the step, so a resumed run does what the uninterrupted one would have done, to the bit.
"""

import math
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from rich.console import Console

from howdeep.analysis.evaluation import Answers, Sums, add_up, evaluate, fingerprint
from howdeep.chain import Chain, Gates
from howdeep.data import Batch, Dataset
from howdeep.runs import folder as runs
from howdeep.runs.folder import Run
from howdeep.runtime import device as devices
from howdeep.runtime.process import StopRequest, patience, stopped
from howdeep.runtime.ranks import Ranks, joined
from howdeep.runtime.timing import threads_of
from howdeep.training.beginning import prepare
from howdeep.training.config import TrainConfig
from howdeep.training.feed import SplitFeed
from howdeep.training.log import Log, epoch_line, print_line
from howdeep.training.saving import NotFiniteError, not_finite, save, save_best
from howdeep.training.session import Place, Session
from howdeep.training.state import Tally, learning_rate, watch_warmup
from howdeep.training.step import gates_of, train_step
from howdeep.training.watching import ASKED, BUSY, QUIET, note_threads, record_epoch, time_again
from howdeep.util.errors import Stopped
from howdeep.util.files import folder_locked
from howdeep.util.intervals import of_share
from howdeep.util.seeds import derive
from howdeep.util.text import percent_text

UNSAVED_SECONDS, SAVING_SHARE = 30.0, 0.02
"""Where no --checkpoint-every is given, every epoch ends with a checkpoint; where epochs are so short that writing
would take more than this share of the time, the first one that ends so many seconds after the last checkpoint."""
UNCERTAIN = 300
"""With fewer validation images the interval of the best epoch's error is said."""


@dataclass(frozen=True)
class TrainResult:
    """What a finished run measured."""

    run: Path
    """The run folder."""
    test: dict | None
    """The evaluation on the test split; None without one."""
    seconds: float
    """Training time, evaluation left out."""

    @property
    def chain(self) -> Chain:
        """The trained network, read from the run folder."""
        return runs.load(self.run)


@dataclass(frozen=True)
class Phase:
    """How far a run has come that may be extended."""

    epochs: float
    """Passes over the training images so far."""
    train_error_percent: float
    """Of the last epoch, while it was trained and augmented."""
    validation_error_percent: float
    """At the end, in fp32."""
    validation_loss: float | None
    """Mean cross-entropy in nats; None where it is not finite."""
    answers: Answers
    """To the validation images."""
    seconds: float
    """Training time so far, evaluation left out."""


def train(
    config: TrainConfig,
    out: str | Path,
    *,
    console: Console | None = None,
    dataset: Dataset | None = None,
    chosen: Callable[[], Chain] | None = None,
    expired: Callable[[], bool] = lambda: False,
) -> TrainResult:
    """Train a network into a run folder, or resume the run that is there.

    Args:
        config: What to do.
        out: The run folder.
        console: Where lines and the progress bar go; None is standard error.
        dataset: The data, where it is open already (see :func:`howdeep.training.images.open_training_data`).
        chosen: With it the weights of the best epoch are kept beside the last ones, as some recipes do anyway, and
            where loss or weights stop being numbers, training ends there. Called after training, it says which network
            the run stands for, in evaluation mode and on the device: the one that reads the test split.
        expired: Asked after every step, in one process, whether time is up: then training ends there, and validates.

    Raises:
        UserError: Bad options, data or folder, or another process writes there.
        NotFiniteError: Loss or weights stopped being numbers; the message names step, learning rate and last
            checkpoint.
        SaveError: Something could not be written.
        Stopped: SIGINT or SIGTERM arrived; everything was saved.
    """
    console, out = console or Console(stderr=True), Path(out)
    with _session(config, out, console, dataset) as (session, run):
        if (done := run.result()) is not None:
            session.place.report(f"{out} is finished; nothing to do")
            if (best := run.kept(session.place.report)) is not None:
                session.place.report(kept_line(best.state))
            _report_test(session, done["test"])
            return TrainResult(out, done["test"], done["seconds"])
        if chosen is None:
            to_the_end(session, console, best=session.recipe.keep == "best", expired=expired)
            return _finish(session, run, _standing(session, run))
        try:
            to_the_end(session, console, best=True)
        except NotFiniteError as error:
            session.place.report(f"training ended early: {error}")
        return _finish(session, run, chosen())


def advance(
    config: TrainConfig,
    out: Path,
    *,
    console: Console,
    dataset: Dataset | None = None,
    expired: Callable[[], bool] = lambda: False,
) -> Phase:
    """Train to the end of the epochs, as :func:`train` does, and validate image by image; more epochs may follow.

    Where the recipe keeps the best epoch, that is what is validated. The test split is not read.
    """
    with _session(config, out, console, dataset) as (session, run):
        to_the_end(session, console, best=session.recipe.keep == "best", expired=expired)
        last = [record for record in run.metrics() if record["event"] == "epoch"][-1]
        feed = _splits(session)
        split = feed.dataset.split("validation")
        chain = _standing(session, run)
        sums = add_up(chain, feed.evaluation(split, Ranks()), autocast=_exact(session))
    assert sums.which is not None, "one process has added them up"
    return Phase(
        epochs=last["epoch"],
        train_error_percent=last["train_error_percent"],
        validation_error_percent=sums.error_percent,
        validation_loss=sums.mean_loss if math.isfinite(sums.mean_loss) else None,
        answers=Answers.of(fingerprint(split), sums.which),
        seconds=last["seconds"],
    )


@contextmanager
def _session(
    config: TrainConfig, out: Path, console: Console, dataset: Dataset | None
) -> Iterator[tuple[Session, Run]]:
    device = devices.pick(config.device)
    with joined(device) as ranks, ranks.held_by_first(lambda: folder_locked(out)):
        report = partial(print_line, console) if ranks.first else lambda _: None
        with stopped("the same command resumes"), _begun(out, ranks) as begun:
            session = prepare(config, out, Place(ranks, device, report), dataset)
            begun.append(session)
            assert isinstance(session.run, Run)
            with threads_of(session.pace.threads), devices.repeatable():
                yield session, session.run


@contextmanager
def _begun(out: Path, ranks: Ranks) -> Iterator[list[Session]]:
    """Remove a run that is new and fails before its first step: with other options it may begin at the same place.

    Loss that is not finite is a finding, not a failure.
    """
    new, begun = ranks.first and not runs.is_run(out), []
    try:
        yield begun
    except NotFiniteError:
        raise
    except BaseException:
        # A record that was not there before: what else lies in a place that was refused is not ours.
        if new and runs.is_run(out) and not any(session.position.step for session in begun):
            runs.forget(out)
        raise


def to_the_end(
    session: Session, console: Console, *, best: bool = False, expired: Callable[[], bool] = lambda: False
) -> None:
    """Do the steps that are left, and save where it is time to; the best epoch as well where that is asked for.

    Where time has expired, the step that was done is the last one, and an epoch ends with it.

    Raises:
        NotFiniteError: Loss or weights stopped being numbers.
        SaveError: Something could not be written.
        Stopped: SIGINT or SIGTERM arrived; everything was saved.
    """
    position, saved_at, saving = session.position, session.position.seconds, 0.0
    ranks, logger = session.place.ranks, session.config.log
    with (
        Log(session.run, console, total=session.total, logger=logger, on=ranks.first) as log,
        patience() as request,
        # Closed at once where an error or a signal ends the loop, and with them the processes that decode images.
        closing(_timed(session.feed.training(position.step, session.total))) as batches,
    ):
        log.rewind(position.step)
        # Only a start before a crash can have recorded the fresh network: it is written before all else.
        if position.step == 0 and not session.run.metrics():
            record_epoch(session, log)
        if "start" in session.run.record and position.step == 0 and not ranks.from_first(session.run.begun):
            _begin(session, log, best=best)
        if session.pace.threads != session.pace.before:
            note_threads(session, log, session.pace.before, ASKED)
        for batch, waited in batches:
            after = _one_step(session, batch, waited, log, request)
            log.advance(position.step)
            over = position.step == session.total or expired()
            epoch_ended = over or position.step % session.feed.steps_per_epoch == 0
            if epoch_ended:
                validation = _end_epoch(session, log)
                if best:
                    save_best(session, validation)
            _keep_pace(session, log, after.stalls, epoch_ended)
            # The end of an epoch takes a while: a signal may have come since the step's own exchange.
            signum = int(max(row[0] for row in ranks.rows([request.signum]))) if epoch_ended else after.signum
            if signum or over or _due(session, epoch_ended, position.seconds - saved_at, saving):
                started = time.perf_counter()
                save(session)
                # What process 0 measured: all must find the same steps worth saving.
                saved_at, saving = position.seconds, ranks.rows([time.perf_counter() - started])[0][0]
            if signum:
                saved = "and saved; the same command resumes" if isinstance(session.run, Run) else "and wrote nothing"
                raise Stopped(128 + signum, f"stopped after step {position.step} {saved}")
            if over:
                return


def _begin(session: Session, log: Log, *, best: bool) -> None:
    """Validate the network that a run was given: its epoch 0, which may stay the best."""
    validation = _validate(session)
    if best:
        save_best(session, validation)
    save(session)
    if validation is not None:
        loss = validation.mean_loss if math.isfinite(validation.mean_loss) else None
        error = validation.error_percent
        record = {"event": "start", "step": 0, "validation_loss": loss, "validation_error_percent": error}
        epochs = session.total / session.feed.steps_per_epoch
        log.event(record, f"epoch 0/{epochs:.4g}  val err {error:.1f} %  nothing trained yet")


def _keep_pace(session: Session, log: Log, stalls: bool, epoch_ended: bool) -> None:
    """Time threads again where steps have become slow; or, after an epoch, where more may be fast again."""
    pace = session.pace
    if stalls:
        time_again(session, log, pace.fewer, BUSY)
    elif epoch_ended and session.position.step < session.total and pace.may_rise(session.position.seconds):
        time_again(session, log, pace.more, QUIET)


def _due(session: Session, epoch_ended: bool, unsaved: float, saving: float) -> bool:
    """Return whether it is time for a checkpoint: as asked for, or after an epoch that is worth the writing."""
    every = session.config.checkpoint_every
    if every is not None:
        return session.position.step % every == 0
    return epoch_ended and unsaved >= min(UNSAVED_SECONDS, saving / SAVING_SHARE)


@dataclass(frozen=True)
class After:
    """What every process knows after a step."""

    signum: int
    """The signal that any process has received, or 0."""
    stalls: bool
    """Whether steps have become so slow that threads should be timed again."""


def _one_step(session: Session, batch: Batch, waited: float, log: Log, request: StopRequest) -> After:
    position, started = session.position, time.perf_counter()
    lr, seed, ranks = learning_rate(session.recipe, position, session.ends), session.config.seed, session.place.ranks
    gates = gates_of(session.chain, session.recipe, batch, ranks, seed=seed, step=position.step)
    torch.manual_seed(derive(seed, "dropout", position.step, ranks.rank))
    loss, wrong = train_step(
        session.engine,
        session.optimizer,
        batch,
        gates,
        lr=lr,
        smoothing=session.recipe.label_smoothing,
        arithmetic=session.arithmetic,
        share=len(batch.labels) * ranks.world / batch.total,
        frozen=session.config.dropped == "frozen",
        clip=session.recipe.clip,
    )
    if session.average is not None:
        session.average.update(position.step)
    seconds, count = time.perf_counter() - started, len(batch.labels)
    stalls = batch.total == session.feed.whole and session.pace.stalls(seconds)
    # One exchange a step: everything that the processes must know of each other.
    own = [loss * count, wrong, _open(session, gates, count), seconds + waited, waited, stalls, request.signum]
    rows = session.place.ranks.rows(own)
    loss_sum, wrong_sum, open_sum, seconds, waited, *_ = (sum(column) for column in zip(*rows, strict=True))
    if not math.isfinite(loss_sum):
        raise not_finite(session, "the loss", lr)
    position.step += 1
    seconds, waited = seconds / session.place.ranks.world, waited / session.place.ranks.world
    position.seconds += seconds
    position.tally.add(
        images=batch.total,
        loss=loss_sum,
        wrong=int(wrong_sum),
        open_units=open_sum / batch.total,
        seconds=seconds,
        waiting=waited,
        lr=lr,
    )
    ended = watch_warmup(session.recipe, position, wrong_sum / batch.total, session.total)
    if ended:
        log.event({"event": "warmup_ended", "step": position.step, "reason": ended}, ended)
    return After(signum=int(max(row[-1] for row in rows)), stalls=bool(rows[0][-2]))


def _open(session: Session, gates: Gates | None, count: int) -> float:
    """Return the open units, summed over the images of this process."""
    given = [1.0] * len(session.chain) if gates is None else gates
    return sum(
        float(gate.sum()) if isinstance(gate, torch.Tensor) else bool(gate) * count
        for gate in given
        if gate is not None
    )


def _timed(batches: Iterator[Batch]) -> Generator[tuple[Batch, float], None, None]:
    """Yield every batch with the seconds that it had to be waited for."""
    started = time.perf_counter()
    for batch in batches:
        yield batch, time.perf_counter() - started
        started = time.perf_counter()


def _end_epoch(session: Session, log: Log) -> Sums | None:
    """Validate, log and print one line, and begin a new tally; return the validation."""
    position, tally = session.position, session.position.tally
    session.place.ranks.copy_buffers(session.chain)
    validation = _validate(session)
    record = {
        "event": "epoch",
        "step": position.step,
        "epoch": position.step / session.feed.steps_per_epoch,
        "train_loss": tally.loss / tally.images,
        "train_error_percent": 100 * tally.wrong / tally.images,
        # JSON has no infinity, which young running statistics of a very deep network can give.
        "validation_loss": validation.mean_loss if validation and math.isfinite(validation.mean_loss) else None,
        "validation_error_percent": validation and validation.error_percent,
        "lr": tally.lr,
        "images_per_second": tally.images / tally.seconds,
        "waiting_percent": 100 * tally.waiting / tally.seconds,
        "open_units": tally.open_units / tally.steps,
        "units": len(session.chain),
        "seconds": position.seconds,
    }
    position.tally = Tally(lr=tally.lr)
    log.event(record, epoch_line(record, session.total / session.feed.steps_per_epoch))
    record_epoch(session, log)
    return validation


def _validate(session: Session) -> Sums | None:
    """Return the sums over the validation split, each process taking its share."""
    batches, ranks = session.feed.validation(), session.place.ranks
    if batches is None:
        return None
    with session.average.shown() if session.average else nullcontext():
        if session.average is not None:
            ranks.copy_buffers(session.chain)
        sums = add_up(session.evaluated, batches, autocast=session.arithmetic.autocast(session.place.device))
    images, wrong, loss = ranks.sums([sums.images, sums.wrong, sums.loss])
    return Sums(int(images), int(wrong), loss)


def kept_line(state: dict) -> str:
    """Return in one line which epoch was kept, and how uncertain that choice is."""
    error, n = state["error_percent"], state["images"]
    which = f"epoch {state['epoch']:.4g}" if state["epoch"] else "epoch 0, as none had fewer errors"
    line = f"kept: {which}, validation error {error:.1f} %"
    if n >= UNCERTAIN:
        return line
    low, high = of_share(error, n)
    return f"{line}, uncertain with n = {n}: 95 % from {low:.1f} to {high:.1f} %"


def _exact(session: Session) -> torch.autocast:
    """Return fp32, in which errors are those that ``howdeep evaluate`` says."""
    return replace(session.arithmetic, precision="fp32").autocast(session.place.device)


def _splits(session: Session) -> SplitFeed:
    """Return the mini-batches of a run in a folder, which is trained on a data set."""
    assert isinstance(session.feed, SplitFeed)
    return session.feed


def _standing(session: Session, run: Run) -> Chain:
    """Return the network that a run stands for at its end, and say where it is not simply the last one."""
    best = run.kept(session.place.report)
    if best is not None:
        session.place.report(kept_line(best.state))
    # The session is over: its own chain takes the weights, since to trace a library's network anew takes seconds.
    session.chain.load_state_dict(session.standing() if best is None else best.network())
    return session.chain


def _finish(session: Session, run: Run, chain: Chain) -> TrainResult:
    """Read the test split, once, and write the result."""
    feed, seconds, test = _splits(session), session.position.seconds, None
    if feed.dataset.test is not None:
        batches = feed.evaluation(feed.dataset.test, Ranks())
        images = fingerprint(feed.dataset.test)
        evaluation = evaluate(chain, batches, feed.dataset.classes, autocast=_exact(session), images=images)
        test = evaluation.to_json()
    _report_test(session, test)
    if session.place.ranks.first:
        run.write_result({"test": test, "seconds": seconds, "steps": session.position.step})
    return TrainResult(run.path, test, seconds)


def _report_test(session: Session, test: dict | None) -> None:
    if test is not None:
        session.place.report(f"test error {percent_text(test['error_percent'], test['n'])}, n = {test['n']:,}")
