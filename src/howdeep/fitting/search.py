"""Networks that compete rung by rung, in an optuna study that any number of processes and machines may share.

A trial is one network for its whole life: whoever claims it trains it on every rung, in a run folder of its own, so
that machines need to share nothing but the study. The study says who has reached which rung with what error; from
that everyone works out the same promotions.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from howdeep.errors import UserError
from howdeep.fitting.halving import Standing, promoted

POLL_SECONDS, ATTEMPTS = 0.5, 3
PLAN, OWNER, RUNGS, FAILED, NETWORK = "plan", "owner", "rungs", "failed", "network"
"""Names of the attributes of a study and of its trials."""
PATIENCE = 3.0
"""Another process may take so many times the planned time of a rung before its networks are left out."""


@dataclass(frozen=True)
class Rung:
    """One network at the end of a rung."""

    epochs: float
    """Passes over the training images so far."""
    steps: int
    """Mini-batches so far."""
    seconds: float
    """Time so far, validation included."""
    train_error_percent: float
    """Of the last epoch, while it was trained and augmented."""
    validation_error_percent: float
    """Of the validation split."""
    validation_loss: float | None
    """In nats; None where it is not finite."""


@dataclass(frozen=True)
class Entry:
    """A network that takes part: what a trial needs to know of it."""

    family: str
    depth: int
    network: str


Climb = Callable[[Entry, Sequence[Rung], float], Rung | None]
"""Train a network that has passed some rungs until it has had so many seconds; None if its training blew up."""


@dataclass(frozen=True)
class Search:
    """One process's part in a search.

    Args:
        study: The study, in which a plan and its networks stand.
        entries: Everyone who takes part.
        rungs: Seconds that a network has had at the end of each rung.
        owner: What this process calls itself: the same after a stop.
        climb: Trains.
        say: Receives one line per network and rung.
    """

    study: optuna.Study
    entries: Sequence[Entry]
    rungs: Sequence[float]
    owner: str
    climb: Climb
    say: Callable[[str], None] = field(default=lambda _: None)

    def winner(self) -> tuple[Entry, str]:
        """Take part until one network is left; return it, and whose it is.

        Raises:
            UserError: The training of every network blew up.
        """
        alive = [entry.network for entry in self.entries]
        for rung in range(len(self.rungs)):
            self._train(rung, alive)
            standings = self._wait(rung, alive)
            if not standings:
                raise UserError("the training of every network blew up; look at the data, or give a lower --lr")
            kept = promoted(list(standings.values()), last=rung + 1 == len(self.rungs))
            alive = [network for network, one in standings.items() if one in kept]
            self._prune(alive)
        if not self.rungs:
            self._claim_all()
        return self._entry(alive[0]), str(trials_by_network(self.study)[alive[0]].user_attrs.get(OWNER, ""))

    def keep(self, network: str, rungs: Sequence[Rung]) -> None:
        """Write down how far a network of this process has come, while its trial is open."""
        live = Trial(self.study, trials_by_network(self.study)[network]._trial_id)
        live.set_user_attr(RUNGS, [vars(one) for one in rungs])
        live.report(rungs[-1].validation_error_percent, step=len(rungs) - 1)

    def finish(self, network: str) -> None:
        """Close the trial of the chosen network."""
        trial = trials_by_network(self.study)[network]
        if not trial.state.is_finished():
            self.study.tell(trial.number, rungs_of_trial(trial)[-1].validation_error_percent)

    def _train(self, rung: int, alive: Sequence[str]) -> None:
        """Train this process's networks on a rung; on the first one, claim those that nobody has yet."""
        for network, trial in trials_by_network(self.study).items():
            if network in alive and trial.user_attrs.get(OWNER) == self.owner:
                self._train_one(trial, rung)
        while rung == 0 and (claimed := self._claim()) is not None:
            self._train_one(claimed, rung)

    def _train_one(self, trial: FrozenTrial, rung: int) -> None:
        done = rungs_of_trial(trial)
        if len(done) > rung or FAILED in trial.user_attrs:
            return
        found = self.climb(self._entry(trial.user_attrs[NETWORK]), done, self.rungs[rung])
        if found is None:
            Trial(self.study, trial._trial_id).set_user_attr(FAILED, f"training blew up on rung {rung + 1}")
            return
        self.keep(trial.user_attrs[NETWORK], [*done, found])

    def _claim_all(self) -> None:
        while self._claim() is not None:
            pass

    def _claim(self) -> FrozenTrial | None:
        """Take a network that nobody has, or return None.

        Asking takes a waiting trial for this process alone. Where another was faster, a new trial comes back instead
        that stands for no network; where two processes entered the same network, the later trial stands for none.
        """
        while any(trial.state == TrialState.WAITING for trial in trials_by_network(self.study).values()):
            trial = self.study.ask()
            network = trial.user_attrs.get(NETWORK)
            first = trials_by_network(self.study).get(str(network))
            if first is None or first.number != trial.number:
                self.study.tell(trial, state=TrialState.FAIL)
                continue
            trial.suggest_categorical("family", sorted({entry.family for entry in self.entries}))
            trial.suggest_categorical("depth", sorted({entry.depth for entry in self.entries}))
            trial.set_user_attr(OWNER, self.owner)
            return trials_by_network(self.study)[str(network)]
        return None

    def _wait(self, rung: int, alive: Sequence[str]) -> dict[str, Standing]:
        """Wait until everyone has passed a rung; return who has, and how."""
        patience = time.monotonic() + PATIENCE * self.rungs[rung] * len(alive) + 60
        while True:
            trials = trials_by_network(self.study)
            missing = [name for name in alive if len(rungs_of_trial(trials[name])) <= rung and not _out(trials[name])]
            if not missing:
                break
            if time.monotonic() > patience:
                self._leave_out(missing)
            time.sleep(POLL_SECONDS)
        return {name: self._standing(trials[name], rung) for name in alive if not _out(trials[name])}

    def _leave_out(self, networks: Sequence[str]) -> None:
        for name in networks:
            trial = trials_by_network(self.study)[name]
            self.say(f"  {name}: left out, nothing was heard from {trial.user_attrs.get(OWNER)}")
            Trial(self.study, trial._trial_id).set_user_attr(FAILED, "nothing was heard from its process")

    def _standing(self, trial: FrozenTrial, rung: int) -> Standing:
        entry, found = self._entry(trial.user_attrs[NETWORK]), rungs_of_trial(trial)[rung]
        loss = math.inf if found.validation_loss is None else found.validation_loss
        return Standing(entry.family, entry.depth, found.validation_error_percent, loss)

    def _prune(self, alive: Sequence[str]) -> None:
        """Close the trials of this process that do not go on."""
        for network, trial in trials_by_network(self.study).items():
            mine = trial.user_attrs.get(OWNER) == self.owner and trial.state == TrialState.RUNNING
            if mine and network not in alive:
                state = TrialState.FAIL if FAILED in trial.user_attrs else TrialState.PRUNED
                self.study.tell(trial.number, state=state)

    def _entry(self, network: str) -> Entry:
        return next(entry for entry in self.entries if entry.network == network)


def open_study(storage: str, name: str) -> tuple[optuna.Study, bool]:
    """Return a study, and whether it was made just now.

    Raises:
        UserError: The storage cannot be used.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _opened(storage, name)
        except Exception as error:  # every database has errors of its own
            # Two processes that make the tables of one database at the same time disturb each other once.
            if attempt == ATTEMPTS:
                reason = str(error).strip().splitlines()[0]
                raise UserError(f"--storage {storage} cannot be used: {reason}") from None
            time.sleep(POLL_SECONDS)
    raise AssertionError("the last attempt returns or raises")


def _opened(storage: str, name: str) -> tuple[optuna.Study, bool]:
    sampler = optuna.samplers.RandomSampler(seed=0)
    try:
        made = optuna.create_study(storage=storage, study_name=name, direction="minimize", sampler=sampler)
    except optuna.exceptions.DuplicatedStudyError:
        return optuna.load_study(storage=storage, study_name=name, sampler=sampler), False
    return made, True


def enlist(study: optuna.Study, entries: Sequence[Entry]) -> None:
    """Enter networks that are not in a study yet."""
    for entry in entries:
        params = {"family": entry.family, "depth": entry.depth}
        study.enqueue_trial(params, user_attrs={NETWORK: entry.network}, skip_if_exists=True)


def trials_by_network(study: optuna.Study) -> dict[str, FrozenTrial]:
    """Return the trial of every network: the first that was entered."""
    found: dict[str, FrozenTrial] = {}
    for trial in sorted(study.get_trials(deepcopy=False), key=lambda one: one.number):
        if NETWORK in trial.user_attrs:
            found.setdefault(trial.user_attrs[NETWORK], trial)
    return found


def rungs_of_trial(trial: FrozenTrial) -> list[Rung]:
    """Return the rungs that a network has passed."""
    return [Rung(**one) for one in trial.user_attrs.get(RUNGS, [])]


def _out(trial: FrozenTrial) -> bool:
    return FAILED in trial.user_attrs
