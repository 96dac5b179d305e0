"""The verdict of a fit on made-up ladders: each limit is found where it was put, and only there."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from howdeep.runtime.timing import Timing
from howdeep.search.answer import Candidate, Verdict, verdict
from howdeep.search.candidates import CandidateCosts, Dropped
from howdeep.search.options import Budgets
from howdeep.search.study import RoundResult

IMAGES = 5000


def result(seconds: float, error: float, train: float = 5.0) -> RoundResult:
    return RoundResult(seconds / 10, int(seconds), seconds, train, error, 0.5)


def candidate(
    depth: int, *errors: float, train: float = 5.0, family: str = "resnet", failed: bool = False
) -> Candidate:
    """A network whose error after 10, 20, 40, … seconds is known."""
    costs = CandidateCosts(
        family,
        depth,
        f"cifar_{family}{depth}",
        1000 * depth,
        10**6 * depth,
        Timing(0.1 * depth, (0.1 * depth, 0.1 * depth), 20),
        0.01 * depth,
        10.0,
        False,
    )
    return Candidate(costs, tuple(result(10 * 2**at, error, train) for at, error in enumerate(errors)), failed)


def dropped(depth: int, budget: str, reason: str = "4.10 ms") -> Dropped:
    return Dropped("resnet", depth, f"cifar_resnet{depth}", budget, reason, 1.0)


def judged(
    chosen: int,
    ladder: list[Candidate],
    out: list[Dropped] | None = None,
    budgets: Budgets | None = None,
    side: int = 32,
) -> Verdict:
    best = next(one for one in ladder if one.costs.depth == chosen)
    return verdict(best, ladder, out or [], budgets or Budgets(1800.0), IMAGES, side)


@pytest.mark.parametrize("budget", ["latency", "memory", "parameters"])
def test_where_the_deepest_allowed_network_is_best_its_budget_is_the_limit(budget: str) -> None:
    ladder = [candidate(8, 30.0), candidate(14, 25.0), candidate(20, 20.0, 15.0)]
    found = judged(20, ladder, [dropped(32, budget)])
    assert found.limit == budget
    assert found.advice == f"{budget} limits you, not training time: cifar_resnet32 would be next, with 4.10 ms"


def test_where_time_keeps_deeper_networks_out_time_is_the_limit() -> None:
    ladder = [candidate(8, 30.0), candidate(14, 25.0, 20.0)]
    found = judged(14, ladder, [dropped(20, "train", "50 min for 5 epochs")], Budgets(1800.0, latency_seconds=0.002))
    assert found.limit == "train"
    assert "training time limits you, not latency (1.4 ms)" in found.advice
    assert found.advice.endswith("cifar_resnet20 needs 50 min for 5 epochs")


def test_large_images_are_part_of_the_time_that_limits() -> None:
    ladder = [candidate(8, 30.0), candidate(14, 25.0, 20.0)]
    small, large = (judged(14, ladder, [dropped(20, "train")], side=side).advice for side in (64, 224))
    assert large == small + "; smaller images (--size 64) train faster"


def test_where_nothing_deeper_was_asked_for_that_is_said() -> None:
    found = judged(14, [candidate(8, 30.0), candidate(14, 20.0, 15.0)])
    assert (found.limit, found.advice) == ("ladder", "go deeper: give --depths beyond 14")


def test_where_the_error_still_falls_with_time_time_is_the_limit() -> None:
    ladder = [candidate(8, 30.0, 28.0), candidate(14, 25.0, 20.0, 15.0), candidate(20, 35.0)]
    found = judged(14, ladder)
    assert found.limit == "train"
    assert (
        "from 20 s to 40 s of training the validation error of cifar_resnet14 fell from 20.0 to 15.0 %" in found.finding
    )


def test_where_a_deeper_network_is_ahead_after_equally_many_epochs_time_is_the_limit() -> None:
    """14 layers are at 25 % after 1 epoch, 20 % after 2 and 19.9 % after 4; 20 layers need twice the time."""
    chosen, deeper = candidate(14, 25.0, 20.0, 19.9, train=18.0), candidate(20, 21.0)
    ahead = replace(deeper, rounds=(replace(deeper.rounds[0], epochs=2**0.5, validation_error_percent=19.0),))
    found = judged(14, [chosen, ahead])
    assert found.limit == "train"
    assert "after 1.4 epochs cifar_resnet20 is at 19.0 % and cifar_resnet14 at about 22.5 %" in found.finding
    behind = replace(deeper, rounds=(replace(deeper.rounds[0], epochs=2**0.5, validation_error_percent=22.0),))
    assert judged(14, [chosen, behind]).limit == "nothing"
    sooner = replace(deeper, rounds=(replace(deeper.rounds[0], epochs=0.5, validation_error_percent=19.0),))
    assert judged(14, [chosen, sooner]).limit == "nothing"


def test_where_the_training_images_are_known_by_heart_the_data_is_the_limit() -> None:
    found = judged(14, [candidate(8, 30.0), candidate(14, 25.0, 20.1, 20.0, train=1.0), candidate(20, 27.0)])
    assert found.limit == "data"
    assert "1.0 % of its training images wrong and 20.0 % of others" in found.finding


def test_where_nothing_helps_the_cheapest_equal_is_named() -> None:
    ladder = [candidate(8, 20.2, 15.3), candidate(14, 20.0, 15.2, 15.1, train=14.0), candidate(20, 20.4)]
    found = judged(14, ladder)
    assert (found.limit, found.depths) == ("nothing", (8, 20))
    assert "or cifar_resnet8 where it must be cheap: 0.8 ms" in found.advice


def test_depths_that_did_worse_at_equal_time_are_told_apart() -> None:
    ladder = [candidate(8, 30.0), candidate(14, 20.9), candidate(20, 20.0, 15.0), candidate(32, 24.0)]
    assert judged(20, ladder).depths == (14, 20)


def test_a_network_that_blew_up_is_told_apart() -> None:
    ladder = [candidate(8, 20.0, failed=True), candidate(14, 20.0, 15.0)]
    assert judged(14, ladder).depths == (14, 14)


def test_another_family_is_not_a_depth() -> None:
    ladder = [candidate(14, 20.0, 15.0), candidate(10, 20.0, family="densenet")]
    assert judged(14, ladder).depths == (14, 14)


def test_one_network_alone_is_judged() -> None:
    assert judged(14, [candidate(14, 20.0, 15.0)], [dropped(20, "latency")]).limit == "latency"


@given(st.lists(st.floats(0.0, 90.0), min_size=2, max_size=8), st.data())
def test_the_interval_holds_the_chosen_depth_and_grows_with_fewer_images(errors: list[float], data) -> None:
    ladder = [candidate(6 * at + 8, error) for at, error in enumerate(errors)]
    best = min(ladder, key=lambda one: one.rounds[0].validation_error_percent)
    few, many = (verdict(best, ladder, [], Budgets(60.0), images, 32).depths for images in (100, 10_000))
    assert few[0] <= many[0] <= best.costs.depth <= many[1] <= few[1]


def test_the_order_of_the_candidates_does_not_matter() -> None:
    ladder = [candidate(8, 30.0), candidate(14, 25.0), candidate(20, 20.0, 15.0)]
    assert judged(20, ladder[::-1]) == judged(20, ladder)
    assert judged(20, [*ladder, replace(candidate(32), rounds=())]) == judged(20, ladder)
