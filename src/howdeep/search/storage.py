"""The study that processes share: asked again while its server restarts, and which of them are still heard from."""

import inspect
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import optuna
from optuna.storages import BaseStorage, RDBStorage

from howdeep.util.errors import UserError, reason
from howdeep.util.text import masked

ATTEMPTS, ATTEMPT_SECONDS = 3, 0.5
"""How often a storage is opened before it counts as unusable."""
FIRST_PAUSE, LONGEST_PAUSE, PATIENCE = 0.1, 5.0, 60.0
"""Seconds after which a storage that did not answer is asked again, at first and at most; and until it is given up."""
BEATS = 6
"""Signs of life in the time after which a process counts as silent."""
ALIVE = "alive "
"""Attributes of a study under which its processes give signs of life begin so."""


def open_study(storage: str, name: str) -> tuple[optuna.Study, bool]:
    """Return a study, and whether it was made just now.

    Raises:
        UserError: The storage cannot be used.
    """
    # What goes wrong is told in one line, here; the libraries would print tracebacks beside it.
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            where, sampler = Patient(storage), optuna.samplers.RandomSampler(seed=0)
            try:
                made = optuna.create_study(storage=where, study_name=name, direction="minimize", sampler=sampler)
            except optuna.exceptions.DuplicatedStudyError:
                return optuna.load_study(storage=where, study_name=name, sampler=sampler), False
            return made, True
        except Exception as error:  # every database has errors of its own
            # Two processes that make the tables of one database at the same time disturb each other once.
            if attempt == ATTEMPTS:
                raise UserError(f"--storage {masked(storage)} cannot be used: {_complaint(error, storage)}") from None
            time.sleep(ATTEMPT_SECONDS)
    raise AssertionError("the last attempt returns or raises")


def _complaint(error: BaseException, url: str) -> str:
    """Return what a database says, which its driver told the libraries above it, without the password."""
    while error.__cause__ is not None:
        error = error.__cause__
    return masked(reason(error), url)


def storage_of(url: str) -> RDBStorage:
    """Return the storage of a URL; every question has a connection of its own, so that none outlives its server."""
    from sqlalchemy import event
    from sqlalchemy.pool import NullPool

    storage = RDBStorage(url, engine_kwargs={"poolclass": NullPool})
    if storage.engine.dialect.name == "sqlite":
        # Its driver begins a transaction at the first write: two processes would both read that a trial waits, and
        # both take it. Servers lock the row that is read.
        event.listen(storage.engine, "connect", lambda connection, _: setattr(connection, "isolation_level", None))
        event.listen(storage.engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return storage


class _Delegating(BaseStorage):
    """A storage that asks another one."""

    def __init__(self, url: str) -> None:
        self.url, self.inner = url, storage_of(url)


def _patient(name: str) -> Callable:
    """Return a method that asks again, with growing pauses, while there is no answer; after a minute it gives up."""

    def method(self: _Delegating, *given: object, **options: object) -> object:
        from sqlalchemy.exc import InterfaceError, OperationalError

        pause, given_up = FIRST_PAUSE, time.monotonic() + PATIENCE
        while True:
            try:
                return getattr(self.inner, name)(*given, **options)
            except (OperationalError, InterfaceError, optuna.exceptions.StorageInternalError) as error:
                if time.monotonic() + pause > given_up:
                    raise ConnectionError(
                        f"--storage {masked(self.url)} has not answered for {PATIENCE:.0f} s"
                        f" ({_complaint(error, self.url)}); the same command resumes"
                    ) from None
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    return method


_METHODS = [name for name, _ in inspect.getmembers(BaseStorage, inspect.isfunction) if not name.startswith("_")]
Patient = type("Patient", (_Delegating,), {name: _patient(name) for name in _METHODS})
"""The storage of a URL, every method of which is patient: what was asked twice is as if it was asked once."""


@contextmanager
def pulse(url: str, name: str, owner: str, silence: float) -> Iterator[None]:
    """Give signs of life to the others of a study meanwhile.

    Args:
        url: The storage.
        name: The study.
        owner: What this process calls itself.
        silence: Seconds without a sign after which the others take it for dead.
    """
    ended = threading.Event()

    def beat() -> None:
        study = None
        while True:
            try:
                # A storage of its own, which is not patient: a sign that comes late is worth nothing.
                study = study or optuna.load_study(study_name=name, storage=storage_of(url))
                study.set_user_attr(ALIVE + owner, time.time())
            except Exception:  # whatever it is, the next beat tries again; the main thread says what is wrong
                study = None
            if ended.wait(silence / BEATS):
                return

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@dataclass(frozen=True)
class _Heard:
    """The last sign of a process, when it was first seen, and how long nothing followed while somebody looked."""

    sign: object
    since: float
    quiet: float


class Watch:
    """Which processes are heard from while one waits; clocks of several machines are not compared.

    Args:
        study: The study.
        silence: Seconds without a sign after which a process counts as dead.
    """

    def __init__(self, study: optuna.Study, silence: float) -> None:
        self.study, self.silence = study, silence
        self._heard: dict[str, _Heard] = {}
        self._looked = time.monotonic()

    def sign(self, owner: str) -> object:
        """Return the last sign of life of a process, or None."""
        return self.study.user_attrs.get(ALIVE + owner)

    def silent(self, owners: Iterable[str]) -> dict[str, float]:
        """Look for signs, and return who counts as dead, and how long ago the last sign was seen, in seconds.

        Of the time since the last look at most half of ``silence`` counts: a process is not taken for silent while
        nobody looked, or while the storage did not answer.
        """
        signs, now = self.study.user_attrs, time.monotonic()
        passed, self._looked = min(now - self._looked, self.silence / 2), now
        for owner in owners:
            sign = signs.get(ALIVE + owner)
            before = self._heard.get(owner)
            if before is None or before.sign != sign:
                self._heard[owner] = _Heard(sign, now, 0.0)
            else:
                self._heard[owner] = replace(before, quiet=before.quiet + passed)
        heard = {owner: self._heard[owner] for owner in owners}
        return {owner: now - one.since for owner, one in heard.items() if one.quiet > self.silence}
