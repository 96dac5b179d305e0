"""The verdict of a fit on made-up ladders: each limit is found where it was put, and only there."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from howdeep.analysis.evaluation import Answers
from howdeep.runtime.timing import Timing
from howdeep.search.answer import Candidate, Verdict, verdict
from howdeep.search.candidates import CandidateCosts, Dropped
from howdeep.search.options import Budgets
from howdeep.search.study import RoundResult

IMAGES = 5000


def answers(error: float, seed: int | None = None, n: int = IMAGES) -> Answers:
    """Return wrong answers to so many percent of the images: to the first ones, or to those that a seed draws."""
    order = torch.arange(n) if seed is None else torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    return Answers.of("the validation split", order < round(error * n / 100))


def result(seconds: float, error: float, train: float = 5.0, seed: int | None = None) -> RoundResult:
    return RoundResult(seconds / 10, int(seconds), seconds, train, error, 0.5, answers(error, seed))


def candidate(
    depth: int, *errors: float, train: float = 5.0, family: str = "resnet", failed: bool = False
) -> Candidate:
    """A network whose error after 10, 20, 40, … seconds is known; which images are wrong is drawn for each anew."""
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
    rounds = (result(10 * 2**at, error, train, 10 * depth + at) for at, error in enumerate(errors))
    return Candidate(costs, tuple(rounds), failed)


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
    assert found.advice == f"{budget} limits you: cifar_resnet32 would be next, with 4.10 ms"


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
    ahead = replace(deeper, rounds=(replace(result(20, 19.0, seed=3), epochs=2**0.5),))
    found = judged(14, [chosen, ahead])
    assert found.limit == "train"
    assert "after 1.4 epochs cifar_resnet20 is at 19.0 % and cifar_resnet14 at about 22.5 %" in found.finding
    behind = replace(deeper, rounds=(replace(result(20, 22.0, seed=3), epochs=2**0.5),))
    assert judged(14, [chosen, behind]).limit == "nothing"
    sooner = replace(deeper, rounds=(replace(result(20, 19.0, seed=3), epochs=0.5),))
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


def test_networks_are_compared_image_by_image() -> None:
    """Of 21 against 20 % the 50 images more are no chance where all others agree, and may be where they do not."""
    chosen = replace(candidate(14, 20.0), rounds=(result(10, 20.0),))
    for seed, depths in ((None, (14, 14)), (1, (8, 14))):
        other = replace(candidate(8, 21.0), rounds=(result(10, 21.0, seed=seed),))
        assert judged(14, [other, chosen]).depths == depths
    elsewhere = replace(result(10, 21.0), answers=replace(answers(21.0), images="in another order"))
    assert judged(14, [replace(candidate(8, 21.0), rounds=(elsewhere,)), chosen]).depths == (8, 14)


def test_a_network_that_was_tried_alone_did_not_do_best() -> None:
    assert judged(14, [candidate(14, 20.0)]).finding == "cifar_resnet14 is the only network that was tried"


@given(st.lists(st.integers(0, 90), min_size=2, max_size=8))
def test_the_interval_holds_the_chosen_depth_and_grows_with_fewer_images(errors: list[int]) -> None:
    """Images are those of the few, a hundred times each."""

    best = 6 * errors.index(min(errors)) + 8

    def depths(times: int) -> tuple[int, int]:
        ladder = []
        for at, error in enumerate(errors):
            wrong = torch.randperm(100, generator=torch.Generator().manual_seed(at)) < error
            told = replace(result(10, float(error)), answers=Answers.of("the validation split", wrong.repeat(times)))
            ladder.append(replace(candidate(6 * at + 8), rounds=(told,)))
        chosen = next(one for one in ladder if one.costs.depth == best)
        return verdict(chosen, ladder, [], Budgets(60.0), 100 * times, 32).depths

    few, many = depths(1), depths(100)
    assert few[0] <= many[0] <= best <= many[1] <= few[1]


def test_the_order_of_the_candidates_does_not_matter() -> None:
    ladder = [candidate(8, 30.0), candidate(14, 25.0), candidate(20, 20.0, 15.0)]
    assert judged(20, ladder[::-1]) == judged(20, ladder)
    assert judged(20, [*ladder, replace(candidate(32), rounds=())]) == judged(20, ladder)
