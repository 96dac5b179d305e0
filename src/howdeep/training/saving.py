"""Checkpoints of a session: everything that it needs to go on to the same bits, and nothing that is not a number."""

import math
from collections.abc import Callable

from howdeep import checkpoints
from howdeep.checkpoints import SaveError
from howdeep.evaluation import Sums
from howdeep.training.session import Session


class NotFiniteError(ArithmeticError):
    """The loss, or a weight, is not a finite number; no checkpoint holds it."""


def not_finite(session: Session, what: str, lr: float) -> NotFiniteError:
    """Return the error that says where a run left the finite numbers, and which checkpoint is the last good one."""
    last = checkpoints.last_good(session.run.checkpoints)
    return NotFiniteError(f"{what} is not finite at step {session.position.step}, learning rate {lr:g}; {last}")


def save(session: Session) -> None:
    """Write a checkpoint of everything that the run needs to go on to the same bits.

    Process 0 writes, and every process learns whether it could, so that none waits for one that has stopped.

    Raises:
        SaveError: It could not be written.
        NotFiniteError: A weight is not a finite number.
    """
    _agreed(session, _write)


def save_best(session: Session, validation: Sums | None) -> None:
    """Keep the weights after an epoch beside the last ones, where its validation is the best so far.

    The best has the fewest errors, and among those the lowest loss. A resumed run that comes by an epoch again
    compares it with what it kept before, and ends with the same one.

    Raises:
        SaveError: They could not be written.
        NotFiniteError: A weight is not a finite number.
    """
    if validation is None or not math.isfinite(validation.mean_loss):
        return
    found = {"error_percent": validation.error_percent, "loss": validation.mean_loss}

    def write(session: Session) -> None:
        best, position = checkpoints.newest(session.run.best, lambda _: None), session.position
        if best is None or (*found.values(),) < (best.state["error_percent"], best.state["loss"]):
            state = {"epoch": position.step / session.steps_per_epoch, **found}
            tensors = {"weights": session.chain.state_dict()}
            checkpoints.save_only(session.run.best, position.step, tensors=tensors, state=state)

    _agreed(session, write)


def _agreed(session: Session, write: Callable[[Session], None]) -> None:
    failure = session.ranks.from_first(_written(session, write) if session.ranks.first else None)
    if isinstance(failure, Exception):
        raise failure


def _written(session: Session, write: Callable[[Session], None]) -> SaveError | NotFiniteError | None:
    """Write a checkpoint; return what was in the way."""
    if not all(bool(weight.isfinite().all()) for weight in session.chain.state_dict().values()):
        return not_finite(session, "a weight", session.position.tally.lr)
    try:
        write(session)
    except SaveError as error:
        return error
    return None


def _write(session: Session) -> None:
    names = {id(parameter): name for name, parameter in session.chain.named_parameters()}
    momentum = {
        names[id(parameter)]: state["momentum_buffer"]
        for parameter, state in session.optimizer.state.items()
        if state.get("momentum_buffer") is not None
    }
    checkpoints.save(
        session.run.checkpoints,
        session.position.step,
        tensors={"weights": session.chain.state_dict(), "momentum": momentum},
        state=session.position.to_json(),
    )
