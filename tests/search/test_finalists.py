"""Which published networks are worth training, and what keeps the answer from being better."""

import base64
from dataclasses import replace

import numpy as np
import pytest
from tests.show.cases import depth, probed

from howdeep.search.finalists import Candidate, candidates_of, finalists, front, guessing_percent, verdict
from howdeep.search.options import Budgets
from howdeep.search.transfer import Probed, Training

N = 200
FREE = Budgets(60.0)


def wrong(*images: range) -> str:
    """Return answers of which those to some images are wrong."""
    bits = np.zeros(N, bool)
    for several in images:
        bits[list(several)] = True
    return base64.b64encode(np.packbits(bits).tobytes()).decode()


def network(name: str, *depths: tuple[int, float], shift: int = 0) -> Probed:
    """Return a network whose depths get so many images wrong, the first ones after some, in so many milliseconds."""
    last = len(depths) - 1
    made = tuple(
        depth(units, 100 * count / N, ms, whole=units == last, wrong=wrong(range(shift, shift + count)))
        for units, (count, ms) in enumerate(depths)
    )
    return probed(name, 96, made, N)


def told(candidates: list[Candidate]) -> list[tuple[str, int]]:
    return [(one.start.network, one.start.units) for one in candidates]


def test_the_front_holds_what_nothing_beats_in_both() -> None:
    one = network("a", (80, 1.0), (40, 2.0), (44, 3.0))
    other = network("b", (60, 1.5), (40, 2.5), (20, 4.0))
    assert told(front(candidates_of([one, other]))) == [("a", 0), ("b", 0), ("a", 1), ("b", 2)]


def test_finalists_are_the_best_and_the_fastest_that_is_as_good_within_chance() -> None:
    one = network("a", (80, 1.0), (24, 2.0), (22, 3.0), (20, 4.0))
    assert told(finalists(candidates_of([one]), FREE)) == [("a", 3), ("a", 1)]


def test_one_finalist_remains_where_all_others_are_worse() -> None:
    one = network("a", (80, 1.0), (60, 2.0), (20, 4.0))
    assert told(finalists(candidates_of([one]), FREE)) == [("a", 2)]


def test_equal_changes_of_the_same_images_count_and_not_their_sums() -> None:
    """2 points more are beyond chance where they are the same images, and not where others became right."""
    same = network("a", (30, 1.0), (20, 2.0))
    assert told(finalists(candidates_of([same]), FREE)) == [("a", 1)]
    mixed = [network("a", (30, 1.0)), network("b", (20, 2.0), shift=100)]
    assert told(finalists(candidates_of(mixed), FREE)) == [("b", 0), ("a", 0)]


def test_what_misses_a_budget_is_no_finalist() -> None:
    one = network("a", (80, 1.0), (40, 2.0), (20, 4.0))
    assert told(finalists(candidates_of([one]), Budgets(60.0, latency_seconds=0.002))) == [("a", 1)]
    assert told(finalists(candidates_of([one]), Budgets(60.0, parameters=100))) == [("a", 0)]


def test_guessing_is_the_most_frequent_class() -> None:
    assert guessing_percent([0, 0, 0, 1]) == 25.0
    assert guessing_percent([2, 1, 0, 1]) == 50.0


TRAINED = Training(
    start=candidates_of([network("a", (20, 1.0))])[0].start,
    run="run",
    seed=0,
    steps=200,
    epochs=10.0,
    seconds=30.0,
    before_percent=20.0,
    kept_epoch=9.0,
    train_error_percent=12.0,
    validation_error_percent=12.0,
    validation_images=N,
)


@pytest.mark.parametrize(
    ("budgets", "last", "limit", "words"),
    [
        (Budgets(60.0, latency_seconds=0.002), {}, "latency", "a at 96, whole, takes 4 ms"),
        (Budgets(60.0, parameters=200), {}, "parameters", "takes 300 parameters"),
        (FREE, {"steps": 0, "epochs": 0.0, "kept_epoch": 0.0}, "train", "--train-budget 99s would leave time for one"),
        (FREE, {"epochs": 4.0}, "train", "may still gain from more"),
        (FREE, {"epochs": 4.0, "kept_epoch": 0.0}, "unknown", "--train-budget 99s, for 8 epochs, would tell"),
        (FREE, {"kept_epoch": 0.0}, "nothing", "take it"),
        (FREE, {"train_error_percent": 1.0}, "data", "more images"),
        (FREE, {}, "nothing", "take it"),
    ],
)
def test_the_limit_is_the_first_rule_that_holds(budgets: Budgets, last: dict, limit: str, words: str) -> None:
    candidates = candidates_of([network("a", (80, 1.0), (50, 2.0), (20, 4.0))])
    chosen = finalists(candidates, budgets)[0]
    found = verdict(chosen, candidates, budgets, replace(TRAINED, **last), 98.6)
    assert found.limit == limit
    assert words in found.advice


def test_nobody_can_say_whether_a_finalist_is_better_that_there_was_no_time_to_train() -> None:
    candidates = candidates_of([network("a", (24, 2.0), (20, 4.0))])
    lowest, faster = finalists(candidates, FREE)

    def judged(last: Training, untrained: Candidate | None = lowest) -> tuple[str, str]:
        found = verdict(faster, candidates, FREE, last, 98.6, untrained=untrained)
        return found.limit, found.advice

    assert judged(TRAINED) == ("unknown", "take it; --train-budget 99s would try both")
    assert judged(replace(TRAINED, train_error_percent=1.0))[0] == "data"
    assert judged(replace(TRAINED, validation_error_percent=0.0, train_error_percent=0.0))[0] == "nothing"
    assert judged(TRAINED, None)[0] == "nothing"


def test_a_budget_is_no_limit_where_what_is_beyond_it_is_better_by_chance() -> None:
    candidates = candidates_of([network("a", (22, 1.0), (20, 4.0))])
    budgets = Budgets(60.0, latency_seconds=0.002)
    assert verdict(finalists(candidates, budgets)[0], candidates, budgets, TRAINED, 0.0).limit == "nothing"
