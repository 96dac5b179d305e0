"""Networks that compete round by round, in an optuna study that any number of processes and machines may share.

The rule is successive halving (Jamieson and Talwalkar 2016, arXiv 1502.07943): every network is trained for the same
time, the better half for twice that time, and so on until one is left, which gets what remains. Time is what is equal,
not epochs: a deep network that is half-trained when time is up is what a shallow one that is finished has to be
compared with.

A trial is one network for its whole life: the process that claims it trains it in every round, in a run folder, so
that machines need to share nothing but the study. The study says who has reached which round with what error; from
that every process works out the same promotions.

A process that is not heard from loses its networks to one that waits for them. The one that takes a network over enters
a trial that says so: trials are numbered by the storage, so that of several the first one counts, and all know which.
The new owner trains the network from its beginning, for as long as its round allows; a process that was only slow finds
that the network is no longer its own.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from howdeep.analysis.evaluation import Answers
from howdeep.search.storage import Watch
from howdeep.util.errors import UserError
from howdeep.util.records import from_json, to_json

SEARCH_SHARE = 0.5
"""Share of the time that the search takes; the chosen network gets the rest."""
AFRESH = True
"""Whether the chosen network is trained anew, in one cycle; else it goes on from its last round, and keeps what it has
learned."""
POLL_SECONDS = 0.5
OWNER, ROUNDS, FAILED, NETWORK = "owner", "rounds", "failed", "network"
"""Names of the attributes of a trial that stands for a network."""
PLACE = ("family", "depth", "width")
"""Names of its parameters."""
TAKES, FROM, SINCE = "takes", "from", "since"
"""Names of the attributes of a trial that stands for a take-over: of what, from whom, and after how many rounds."""


@dataclass(frozen=True)
class Standing:
    """One network at the end of a round."""

    family: str
    """Family of the network."""
    depth: int
    """Its layers."""
    width: int
    """Its width."""
    error_percent: float
    """Validation error."""
    loss: float
    """Validation loss in nats, which decides between equal errors."""


def round_ends(networks: int, seconds: float) -> tuple[float, ...]:
    """Return the training time, from its start, that a network has had at the end of each round.

    With K networks, of which k_r = ⌈k_{r−1} / 2⌉ reach round r, and times t·2^r, the search takes
    t (K + Σ_r k_r 2^(r−1)), which is half of the time there is. One network needs no search.

    Args:
        networks: How many are compared, at least 1.
        seconds: Time that there is in all.
    """
    counts = [networks]
    while counts[-1] > 2:
        counts.append(math.ceil(counts[-1] / 2))
    if networks == 1:
        return ()
    units = networks + sum(count * 2 ** (number - 1) for number, count in enumerate(counts) if number)
    return tuple(SEARCH_SHARE * seconds / units * 2**number for number in range(len(counts)))


def final_share(networks: int) -> float:
    """Return the share of the whole time in which the chosen network learns what it then knows."""
    rounds = round_ends(networks, 1.0)
    if not rounds:
        return 1.0
    return 1.0 - SEARCH_SHARE + (0.0 if AFRESH else rounds[-1])


def promoted(standings: Sequence[Standing], *, last: bool) -> list[Standing]:
    """Return who is trained for longer: the better half, best first; after the last round only the best.

    More time helps deep and wide networks more. The neighbours of the best one, the next deeper one of its width and
    the next wider one of its depth, are therefore kept, in place of the worst of the better half.

    Args:
        standings: All networks that were trained in this round.
        last: Whether this was the last round.
    """
    ranked = sorted(standings, key=lambda one: (one.error_percent, one.loss, one.depth, one.width))
    if last:
        return ranked[:1]
    half, best = math.ceil(len(ranked) / 2), ranked[0]
    relatives = [one for one in ranked if one.family == best.family]
    deeper = [one for one in relatives if one.width == best.width and one.depth > best.depth]
    wider = [one for one in relatives if one.depth == best.depth and one.width > best.width]
    nearest = [*sorted(deeper, key=lambda one: one.depth)[:1], *sorted(wider, key=lambda one: one.width)[:1]]
    first = [one for one in ranked if one is best or one in nearest][:half]
    others = [one for one in ranked[:half] if one not in first][: half - len(first)]
    return [one for one in ranked if one in first or one in others]


@dataclass(frozen=True)
class RoundResult:
    """One network at the end of a round."""

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
    answers: Answers
    """To the images of the validation split, so that networks are compared image by image."""


@dataclass(frozen=True)
class Entry:
    """A network that takes part: what a trial needs to know of it."""

    family: str
    depth: int
    width: int
    network: str


TrainRound = Callable[[Entry, Sequence[RoundResult], float], RoundResult | None]
"""Train a network that has passed some rounds until it has had the given seconds; None if its training diverged."""


@dataclass(frozen=True)
class Held:
    """A network in a study, and whose it is."""

    trial: FrozenTrial
    """The trial that stands for it."""
    owner: str
    """The process that trains it; empty where none said so."""
    since: int
    """Rounds that it had passed when that process took it over."""

    @property
    def rounds(self) -> list[RoundResult]:
        """The rounds that it has passed."""
        return [from_json(RoundResult, one) for one in self.trial.user_attrs.get(ROUNDS, [])]

    @property
    def own_rounds(self) -> list[RoundResult]:
        """Those that its owner trained."""
        return self.rounds[self.since :]

    @property
    def out(self) -> bool:
        """Whether its training diverged."""
        return FAILED in self.trial.user_attrs

    def done(self, number: int) -> bool:
        """Whether nothing is left to train on a round."""
        return len(self.rounds) > number or self.out


@dataclass(frozen=True)
class Search:
    """One process's part in a search.

    Args:
        study: The study, in which a plan and its networks stand.
        entries: All networks that take part.
        rounds: Seconds that a network has had at the end of each round.
        owner: What this process calls itself: the same after a stop.
        train_round: Trains.
        silence: Seconds without a sign of life after which another process counts as dead.
        report: Receives one line per network and round.
        excuse: Receives the seconds that were waited for a process that is gone.
    """

    study: optuna.Study
    entries: Sequence[Entry]
    rounds: Sequence[float]
    owner: str
    train_round: TrainRound
    silence: float
    report: Callable[[str], None] = field(default=lambda _: None)
    excuse: Callable[[float], None] = field(default=lambda _: None)

    def winner(self) -> tuple[Entry, str]:
        """Take part until one network is left; return it, and whose it is: a process that is there, or has ended it.

        Raises:
            UserError: The training of every network diverged.
        """
        alive = [entry.network for entry in self.entries]
        for number in range(len(self.rounds)):
            standings = self._passed(number, alive)
            if not standings:
                raise UserError(
                    "the training of every network diverged (loss is NaN); look at the data, or give a lower --lr"
                )
            kept = promoted(list(standings.values()), last=number + 1 == len(self.rounds))
            alive = [network for network, one in standings.items() if one in kept]
            for network, held in held_networks(self.study).items():
                if held.owner == self.owner and held.trial.state == TrialState.RUNNING and network not in alive:
                    state = TrialState.FAIL if held.out else TrialState.PRUNED
                    self.study.tell(held.trial.number, state=state, skip_if_finished=True)
        while not self.rounds and self._claim() is not None:
            pass
        return self._entry(alive[0]), self._heard_owner(alive[0])

    def held(self, network: str) -> Held:
        """Return a network as the study knows it."""
        return held_networks(self.study)[network]

    def keep(self, network: str, rounds: Sequence[RoundResult]) -> None:
        """Write down how far a network of this process has come, while its trial is open."""
        trial = live(self.study, self.held(network).trial)
        trial.report(rounds[-1].validation_error_percent, step=len(rounds) - 1)
        # Last: whoever reads it may promote others, and close the trial.
        trial.set_user_attr(ROUNDS, [to_json(one) for one in rounds])

    def finish(self, network: str) -> None:
        """Close the trial of the chosen network, and those that were left open by processes that are gone."""
        for name, held in held_networks(self.study).items():
            if name == network:
                error = held.rounds[-1].validation_error_percent
                self.study.tell(held.trial.number, error, skip_if_finished=True)
            else:
                self.study.tell(held.trial.number, state=TrialState.PRUNED, skip_if_finished=True)

    def _passed(self, number: int, alive: Sequence[str]) -> dict[str, Standing]:
        """Train in a round, wait until all networks have passed it, and return which have, and how."""
        watch = Watch(self.study, self.silence)
        while True:
            self._train(number, alive)
            networks = held_networks(self.study)
            missing = {name: networks[name] for name in alive if not networks[name].done(number)}
            if not missing:
                break
            if self._take_over(missing, watch):
                watch = Watch(self.study, self.silence)  # only those are waited for who have had their turn
            else:
                time.sleep(POLL_SECONDS)
        standings = {}
        for name in alive:
            if not networks[name].out:
                entry, result = self._entry(name), networks[name].rounds[number]
                loss = math.inf if result.validation_loss is None else result.validation_loss
                error = result.validation_error_percent
                standings[name] = Standing(entry.family, entry.depth, entry.width, error, loss)
        return standings

    def _train(self, number: int, alive: Sequence[str]) -> None:
        """Train this process's networks in a round; in the first one, claim those that no process has yet."""
        for network, held in held_networks(self.study).items():
            if network in alive and held.owner == self.owner:
                self._train_one(network, number)
        while number == 0 and (claimed := self._claim()) is not None:
            self._train_one(claimed, number)

    def _train_one(self, network: str, number: int) -> None:
        held = self.held(network)
        if held.done(number):
            return
        result = self.train_round(self._entry(network), held.own_rounds, self.rounds[number])
        if (now := self.held(network)).owner != self.owner:
            self.report(f"  {network}: {now.owner} has taken it over meanwhile")
        elif result is None:
            live(self.study, held.trial).set_user_attr(FAILED, f"training diverged in round {number + 1}")
        else:
            self.keep(network, [*held.rounds, result])

    def _claim(self) -> str | None:
        """Take a network that no process has, or return None.

        Asking takes a waiting trial for this process alone. Where another was faster, a new trial comes back instead
        that stands for no network; where two processes entered the same network, the later trial stands for none.
        """
        while any(held.trial.state == TrialState.WAITING for held in held_networks(self.study).values()):
            trial = self.study.ask()
            network = str(trial.user_attrs.get(NETWORK))
            first = held_networks(self.study).get(network)
            if first is None or first.trial.number != trial.number:
                self.study.tell(trial, state=TrialState.FAIL)
                continue
            for name in PLACE:
                trial.suggest_categorical(name, sorted({getattr(entry, name) for entry in self.entries}))
            trial.set_user_attr(OWNER, self.owner)
            return network
        return None

    def _take_over(self, networks: Mapping[str, Held], watch: Watch) -> bool:
        """Take the networks of processes that are silent; return whether there were any."""
        theirs = {name: held for name, held in networks.items() if held.trial.state != TrialState.WAITING}
        silent = watch.silent({held.owner for held in theirs.values()} - {self.owner})
        for name, held in theirs.items():
            if held.owner not in silent:
                continue
            since = min(len(held.rounds), len(self.rounds))
            take_over(self.study, name, held.owner, self.owner, since)
            if self.held(name).owner == self.owner:
                self.report(f"  {name}: taken over, nothing is heard from {held.owner or 'its process'}")
                live(self.study, held.trial).set_user_attr(ROUNDS, [to_json(one) for one in held.rounds[:since]])
        if silent:
            self.excuse(max(silent.values()))
        return bool(silent)

    def _heard_owner(self, network: str) -> str:
        """Return the owner of a network, once it is heard from; where it is silent, this process takes over."""
        signs: dict[str, object] = {}
        watch = Watch(self.study, self.silence)
        while True:
            held = self.held(network)
            if held.owner == self.owner or held.trial.state.is_finished():
                return held.owner
            sign = watch.sign(held.owner)
            if signs.setdefault(held.owner, sign) != sign:
                return held.owner
            if not self._take_over({network: held}, watch):
                time.sleep(POLL_SECONDS)

    def _entry(self, network: str) -> Entry:
        return next(entry for entry in self.entries if entry.network == network)


def live(study: optuna.Study, trial: FrozenTrial) -> Trial:
    """Return a trial that can be written to, of any process: its number in the storage is private (optuna 5.0)."""
    return Trial(study, trial._trial_id)


def enlist(study: optuna.Study, entries: Sequence[Entry]) -> None:
    """Enter networks that are not in a study yet."""
    for entry in entries:
        params = {name: getattr(entry, name) for name in PLACE}
        study.enqueue_trial(params, user_attrs={NETWORK: entry.network}, skip_if_exists=True)


def held_networks(study: optuna.Study) -> dict[str, Held]:
    """Return every network, the first trial that was entered for it, and whose it is."""
    trials, first = trials_in_order(study), {}
    for trial in trials:
        if (network := trial.user_attrs.get(NETWORK)) is not None:
            first.setdefault(network, trial)
    owners = {name: owner_now(trials, name, trial.user_attrs.get(OWNER, "")) for name, trial in first.items()}
    return {name: Held(trial, *owners[name]) for name, trial in first.items()}


def trials_in_order(study: optuna.Study) -> list[FrozenTrial]:
    """Return all trials of a study by their numbers, which the storage gives, each once."""
    return sorted(study.get_trials(deepcopy=False), key=lambda one: one.number)


def owner_now(trials: Sequence[FrozenTrial], what: str, owner: str) -> tuple[str, int]:
    """Return whose something is that was one process's at first, and after how many rounds, after all take-overs."""
    since = 0
    for trial in trials:
        said = trial.user_attrs
        if said.get(TAKES) == what and said[FROM] == owner:
            owner, since = said[OWNER], said[SINCE]
    return owner, since


def take_over(study: optuna.Study, what: str, before: str, owner: str, since: int) -> None:
    """Enter that a process takes something over; where another was faster that stands for nothing."""
    enter(study, {TAKES: what, FROM: before, OWNER: owner, SINCE: since})


def enter(study: optuna.Study, said: dict) -> None:
    """Enter something for all to read, in a trial that stands for no network: the storage puts them in one order."""
    study.add_trial(optuna.trial.create_trial(state=TrialState.FAIL, user_attrs=said))


def first_entered(trials: Sequence[FrozenTrial], name: str) -> Any:
    """Return what was entered first under a name, or None."""
    return next((trial.user_attrs[name] for trial in trials if name in trial.user_attrs), None)
