"""The checkpoints of a run: the newest two, and the weights of its best epoch."""

import math
from collections.abc import Callable

from howdeep.analysis.evaluation import Sums
from howdeep.training.optimizers import state_of
from howdeep.training.session import Session
from howdeep.util.files import SaveError


class NotFiniteError(ArithmeticError):
    """The loss, or a weight, is not a finite number; no checkpoint holds it."""


def not_finite(session: Session, what: str, lr: float) -> NotFiniteError:
    """Return the error that says where a run left the finite numbers, and which checkpoint is the last good one."""
    at = f"step {session.position.step}, learning rate {lr:g}"
    return NotFiniteError(f"{what} is not finite at {at}; {session.run.last_good}")


def save(session: Session) -> None:
    """Write a checkpoint of everything that the run needs to resume with the same bits.

    Raises:
        SaveError: It could not be written.
        NotFiniteError: A weight is not a finite number.
    """

    def write() -> None:
        tensors = {"weights": session.chain.state_dict(), **state_of(session.optimizer, session.chain)}
        tensors |= {"ema": session.average.tensors} if session.average else {}
        position = session.position
        session.run.save(position.step, tensors=tensors, state=position.to_json())

    _by_first(session, write)


def save_best(session: Session, validation: Sums | None) -> None:
    """Keep the weights after an epoch beside the last ones, where its validation is the best so far.

    The best has the fewest errors, and among those the lowest loss. What a run began with, epoch 0, stays where no
    epoch has fewer errors: its loss says nothing beside that of a training with smoothed labels. A resumed run that
    comes by an epoch again compares it with what it kept before, and ends with the same one.

    Raises:
        SaveError: They could not be written.
        NotFiniteError: A weight is not a finite number.
    """
    if validation is None or not math.isfinite(validation.mean_loss):
        return

    def write() -> None:
        best, position = session.run.kept(lambda _: None), session.position
        if best is None or is_better(validation, best.state):
            state = {
                "epoch": position.step / session.feed.steps_per_epoch,
                "error_percent": validation.error_percent,
                "loss": validation.mean_loss,
                "images": validation.images,
            }
            session.run.save_best(position.step, weights=session.standing(), state=state)

    _by_first(session, write)


def is_better(validation: Sums, best: dict) -> bool:
    """Return whether a validation is better than what was kept of the best one so far; of epoch 0, by errors alone."""
    if not best["epoch"]:
        return validation.error_percent < best["error_percent"]
    return (validation.error_percent, validation.mean_loss) < (best["error_percent"], best["loss"])


def _by_first(session: Session, write: Callable[[], None]) -> None:
    """Let process 0 write; every process learns whether it could, so that none waits for one that has stopped."""
    failure = None
    if session.place.ranks.first:
        try:
            if not all(bool(weight.isfinite().all()) for weight in session.chain.state_dict().values()):
                raise not_finite(session, "a weight", session.position.tally.lr)
            write()
        except (SaveError, NotFiniteError) as error:
            failure = error
    failure = session.place.ranks.from_first(failure)
    if isinstance(failure, Exception):
        raise failure
