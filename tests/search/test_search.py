"""A search ends with the network that halving would choose, whoever takes part and whoever stops."""

import contextlib
import shutil
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from optuna.trial import TrialState
from tests.processes import FORKS

from howdeep.analysis.evaluation import Answers
from howdeep.search import storage as storages
from howdeep.search import study as studies
from howdeep.search.storage import open_study, pulse, storage_of
from howdeep.search.study import (
    Entry,
    RoundResult,
    Search,
    enlist,
    enter,
    first_entered,
    held_networks,
    take_over,
    trials_in_order,
)
from howdeep.util.errors import UserError

DEPTHS = (8, 14, 20, 32, 56)
ENTRIES = [Entry("resnet", depth, 1, f"net{depth}") for depth in DEPTHS]
ROUNDS = (1.0, 2.0, 4.0)
ERRORS = {8: (30.0, 28.0, 27.0), 14: (20.0, 12.0, 11.0), 20: (22.0, 10.0, 9.0), 32: (25.0, 11.0, 8.0), 56: (60.0,) * 3}
"""Network → validation error by round: 14 is first, then 20, and 32 wins late."""


def result(entry: Entry, until: float) -> RoundResult:
    number = ROUNDS.index(until)
    return RoundResult(number + 1.0, number + 1, until, 1.0, ERRORS[entry.depth][number], 0.5, Answers("i", "AA=="))


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(studies, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(storages, "ATTEMPT_SECONDS", 0.01)


def search(
    storage: str, owner: str = "one", train_round=None, log: list | None = None, entries: Sequence[Entry] = ENTRIES
) -> Search:
    study, _ = open_study(storage, "s")
    enlist(study, entries)

    def train(entry: Entry, done: Sequence[RoundResult], until: float) -> RoundResult | None:
        if log is not None:
            log.append((entry.depth, until))
        return result(entry, until)

    return Search(study, entries, ROUNDS, owner, train_round or train, 60.0)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage without a study: making its tables takes most of the time of opening one."""
    place = tmp_path_factory.mktemp("tables") / "study.db"
    storage_of(f"sqlite:///{place}")
    return place


@pytest.fixture
def storage(tables: Path, tmp_path: Path) -> str:
    return f"sqlite:///{shutil.copy(tables, tmp_path)}"


@pytest.fixture(scope="module")
def ended(tables: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Search, tuple[Entry, str], list]:
    """A search that one process has brought to its end, what it found, and what it trained."""
    log: list = []
    one = search(f"sqlite:///{shutil.copy(tables, tmp_path_factory.mktemp('ended'))}", log=log)
    found = one.winner()
    one.finish(found[0].network)
    return one, found, log


def test_the_winner_is_the_best_of_those_who_were_promoted(ended: tuple[Search, tuple[Entry, str], list]) -> None:
    _, (winner, owner), log = ended
    assert (winner.depth, owner) == (32, "one")
    assert [depth for depth, until in log if until == 1.0] == list(DEPTHS)
    assert [depth for depth, until in log if until == 2.0] == [14, 20, 32]
    assert [depth for depth, until in log if until == 4.0] == [20, 32]


def test_every_trial_ends_as_what_became_of_it(ended: tuple[Search, tuple[Entry, str], list]) -> None:
    one, (winner, _), _ = ended
    networks = held_networks(one.study)
    trials = {name: held.trial for name, held in networks.items()}
    assert trials["net8"].state == trials["net20"].state == TrialState.PRUNED
    assert trials["net56"].intermediate_values == {0: 60.0}
    assert [one.validation_error_percent for one in networks["net20"].rounds] == [22.0, 10.0, 9.0]
    assert one.study.best_trial.user_attrs["network"] == winner.network
    assert one.study.best_params == {"family": "resnet", "depth": winner.depth, "width": 1}


def test_a_stop_at_any_moment_trains_nothing_twice(storage: str) -> None:
    whole: list = []
    three = ENTRIES[1:4]
    winner, _ = search(storage.replace("study.db", "whole.db"), log=whole, entries=three).winner()
    log: list = []
    for moment in range(len(whole)):

        def train_round(entry: Entry, done: Sequence[RoundResult], until: float) -> RoundResult:
            if len(log) > moment:  # noqa: B023
                raise KeyboardInterrupt
            log.append((entry.depth, until))
            return result(entry, until)

        with contextlib.suppress(KeyboardInterrupt):
            search(storage, train_round=train_round, entries=three).winner()
        assert len(log) == moment + 1
    again, _ = search(storage, log=log, entries=three).winner()
    assert again == winner
    assert log == whole


def test_a_network_that_blows_up_is_left_behind(storage: str) -> None:
    def train_round(entry: Entry, done: Sequence[RoundResult], until: float) -> RoundResult | None:
        return None if entry.depth == 20 else result(entry, until)

    found = search(storage, train_round=train_round)
    assert found.winner()[0].depth == 32
    assert held_networks(found.study)["net20"].trial.state == TrialState.FAIL


def test_where_all_blow_up_there_is_no_answer(storage: str) -> None:
    with pytest.raises(UserError, match="every network diverged"):
        search(storage, train_round=lambda entry, done, until: None).winner()


def test_a_single_network_needs_no_search(storage: str) -> None:
    study, _ = open_study(storage, "s")
    enlist(study, ENTRIES[:1])
    alone = Search(study, ENTRIES[:1], (), "one", lambda *_: pytest.fail("nothing is compared"), 60.0)
    assert alone.winner() == (ENTRIES[0], "one")


@pytest.mark.parametrize("passed", [0, 2])
def test_networks_of_a_process_that_is_gone_are_trained_by_one_that_is_there(passed: int, storage: str) -> None:
    """Whatever it had done: nothing in the answer says that it died."""
    moments = iter(range(3 * passed))

    def dies(entry: Entry, done: Sequence[RoundResult], until: float) -> RoundResult:
        if next(moments, None) is None:
            raise KeyboardInterrupt
        return result(entry, until)

    with contextlib.suppress(KeyboardInterrupt):
        search(storage, "gone", dies).winner()
    said: list[str] = []
    excused: list[float] = []
    log: list = []
    found = search(storage, "here", log=log)
    found = replace(found, silence=0.3, report=said.append, excuse=excused.append)
    winner, owner = found.winner()
    assert (winner.depth, owner) == (32, "here")
    taken = {line.split(":")[0].strip() for line in said if "taken over, nothing is heard from gone" in line}
    assert taken
    assert taken <= {name for name, held in held_networks(found.study).items() if held.owner == "here"}
    assert sum(excused) > 0.3
    found.finish(winner.network)
    ended = held_networks(found.study)
    assert all(held.trial.state.is_finished() and not held.out for held in ended.values())
    assert [one.validation_error_percent for one in ended["net32"].rounds] == list(ERRORS[32])


def test_whoever_was_only_slow_finds_that_its_network_is_taken(storage: str) -> None:
    said: list[str] = []

    def overtaken(entry: Entry, done: Sequence[RoundResult], until: float) -> RoundResult:
        if not said and until == ROUNDS[0]:
            said.append("another is here")
            take_over(slow.study, entry.network, "slow", "fast", 0)
            other = search(storage, "fast")
            other._train(0, [entry.network])
        return result(entry, until)

    slow = search(storage, "slow", overtaken)
    slow = replace(slow, report=said.append)
    slow._train(0, [entry.network for entry in ENTRIES])
    held = held_networks(slow.study)
    assert said[1:] == ["  net8: fast has taken it over meanwhile"]
    assert {name: one.owner for name, one in held.items() if one.owner == "fast"} != {}
    assert all(len(one.rounds) == 1 for one in held.values())


def take_part(storage: str, owner: str, folder: str) -> None:
    """One process of several: every round that it trains leaves a file."""

    def train_round(entry: Entry, done: Sequence[RoundResult], until: float) -> RoundResult:
        with Path(folder, f"{entry.network}-{len(done)}").open("x") as file:  # fails if another was here
            file.write(owner)
        return result(entry, until)

    part = search(storage, owner, train_round)
    with pulse(storage, "s", owner, 60.0):
        winner, whose = part.winner()
        if whose == owner:
            part.finish(winner.network)
    Path(folder, f"winner-{owner}").write_text(f"{winner.network} {whose}")


def test_two_processes_share_a_study_and_agree(storage: str, tmp_path: Path) -> None:
    folder = tmp_path / "seen"
    folder.mkdir()
    workers = [FORKS.Process(target=take_part, args=(storage, owner, str(folder))) for owner in ("a", "b")]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0, 0]
    trained = sorted(path.name for path in folder.glob("net*"))
    assert trained == sorted(
        [f"net{depth}-0" for depth in DEPTHS] + [f"net{depth}-1" for depth in (14, 20, 32)] + ["net20-2", "net32-2"]
    )
    answers = {(folder / f"winner-{owner}").read_text() for owner in ("a", "b")}
    assert len(answers) == 1
    assert answers.pop().startswith("net32 ")


def test_a_waiting_network_is_claimed_by_one_of_many(storage: str) -> None:
    study, _ = open_study(storage, "s")
    enlist(study, ENTRIES)
    claimed: list[str] = []

    def claim(owner: str) -> None:
        part = search(storage, owner)
        while (network := part._claim()) is not None:
            claimed.append(network)

    claims = [threading.Thread(target=claim, args=(str(number),)) for number in range(6)]
    for one in claims:
        one.start()
    for one in claims:
        one.join()
    assert sorted(claimed) == sorted(entry.network for entry in ENTRIES)


def test_of_two_that_measured_for_all_the_first_counts(storage: str) -> None:
    study, _ = open_study(storage, "s")
    assert first_entered(trials_in_order(study), "plan") is None
    for plan in ({"rounds": [1.0]}, {"rounds": [2.0]}):
        enter(study, {"plan": plan})
    assert first_entered(trials_in_order(study), "plan") == {"rounds": [1.0]}


def test_a_network_entered_twice_takes_part_once(storage: str) -> None:
    study, _ = open_study(storage, "s")
    enlist(study, ENTRIES)
    study.enqueue_trial({"family": "resnet", "depth": 8, "width": 1}, user_attrs={"network": "net8"})
    log: list = []
    assert search(storage, log=log).winner()[0].depth == 32
    assert log.count((8, 1.0)) == 1


def test_an_unusable_storage_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^--storage sqlite:////nowhere/at/all.db cannot be used: "):
        open_study("sqlite:////nowhere/at/all.db", "s")
    with pytest.raises(UserError, match=r"^--storage nonsense cannot be used: "):
        open_study("nonsense", "s")
