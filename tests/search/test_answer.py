"""The verdict of a fit on made-up planes: each limit is found where it was put, and only there."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.show.cases import candidate_costs

from howdeep.analysis.evaluation import Answers
from howdeep.search.answer import Candidate, Verdict, verdict
from howdeep.search.candidates import Dropped
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
    depth: int, *errors: float, width: int = 1, train: float = 5.0, family: str = "resnet", failed: bool = False
) -> Candidate:
    """A network whose error after 10, 20, 40, … seconds is known; which images are wrong is drawn for each anew."""
    rounds = (result(10 * 2**at, error, train, 1000 * width + 10 * depth + at) for at, error in enumerate(errors))
    return Candidate(candidate_costs(depth, width, family), tuple(rounds), failed)


def dropped(depth: int, budget: str, reason: str = "4.10 ms", width: int = 1, needed: float = 1e6) -> Dropped:
    return Dropped("resnet", depth, width, candidate_costs(depth, width).network, budget, reason, needed)


def judged(
    chosen: int,
    plane: list[Candidate],
    out: list[Dropped] | None = None,
    budgets: Budgets | None = None,
    side: int = 32,
    width: int = 1,
    images: int = IMAGES,
) -> Verdict:
    """Judge a network of which the last error is that of its end, after a training of its own."""
    best = next(one for one in plane if (one.costs.depth, one.costs.width) == (chosen, width))
    *before, final = best.rounds
    shorter = replace(best, rounds=tuple(before))
    others = [shorter if one is best else one for one in plane]
    return verdict(shorter, final, others, out or [], budgets or Budgets(1800.0), images, side)


@pytest.mark.parametrize("budget", ["latency", "memory", "parameters"])
def test_where_the_largest_allowed_network_is_best_its_budget_is_the_limit(budget: str) -> None:
    plane = [candidate(8, 30.0), candidate(14, 25.0, 24.0), candidate(20, 20.0, 18.0, 15.0)]
    found = judged(20, plane, [dropped(32, budget)])
    assert found.limit == budget
    assert (
        found.finding == f"cifar_resnet20 did best, and nothing larger was tried: larger ones miss the {budget} budget"
    )
    assert found.advice == f"{budget} limits you: cifar_resnet32 would be next, with 4.10 ms"


def test_where_time_keeps_larger_networks_out_time_is_the_limit() -> None:
    plane, budgets = [candidate(8, 30.0), candidate(14, 25.0, 20.0)], Budgets(1800.0, latency_seconds=0.002)
    found = judged(14, plane, [dropped(20, "train", "50 min for 5 epochs")], budgets)
    assert found.limit == "train"
    assert "training time limits you, not latency (1.4 ms)" in found.advice
    assert found.advice.endswith("cifar_resnet20 needs 50 min for 5 epochs")


def test_a_wider_network_is_larger_too() -> None:
    """And where one took part and did not do worse, no budget is the limit."""
    plane, out = [candidate(8, 30.0), candidate(14, 25.0, 24.9, train=20.0)], [dropped(14, "latency", width=2)]
    assert judged(14, plane, out).advice == "latency limits you: cifar_resnet14_w2 would be next, with 4.10 ms"
    assert judged(14, [*plane, candidate(20, 25.1, width=2)], out).limit == "nothing"
    # One of which others stood for was not tried, and missed nothing.
    open_question = judged(14, plane, [dropped(20, "")])
    assert open_question.limit == "unknown"
    assert open_question.finding.endswith("nothing larger took part")


def test_large_images_are_part_of_the_time_that_limits() -> None:
    plane = [candidate(8, 30.0), candidate(14, 25.0, 20.0)]
    small, large = (judged(14, plane, [dropped(20, "train")], side=side).advice for side in (64, 224))
    assert large == small + "; smaller images (--size 64) train faster"


def test_where_nothing_larger_was_asked_for_that_is_said() -> None:
    found = judged(14, [candidate(8, 30.0), candidate(14, 20.0, 15.0)])
    assert (found.limit, found.advice) == ("ladder", "go on: give --depths beyond 14, or --widths beyond 1")


def test_where_the_error_still_falls_with_time_time_is_the_limit() -> None:
    found = judged(14, [candidate(8, 30.0, 28.0), candidate(14, 25.0, 20.0, 15.0), candidate(20, 35.0)])
    assert found.limit == "train"
    assert (
        "from 20 s to 40 s of training the validation error of cifar_resnet14 fell from 20.0 to 15.0 %" in found.finding
    )


def test_an_error_that_has_no_way_to_go_does_not_still_fall() -> None:
    """One of 179 images is wrong: if the third of it went as well nobody would see it."""
    rounds = (
        result(10, 60.0),
        result(20, 40.0),
        replace(result(60, 1 / 1.79, train=1.6), answers=answers(0.56, n=179)),
    )
    few = [replace(one, answers=answers(one.validation_error_percent, n=179)) for one in rounds]
    chosen = replace(candidate(14), rounds=tuple(few))
    other = replace(candidate(20), rounds=(replace(result(10, 90.0), answers=answers(90.0, n=179)),))
    found = judged(14, [chosen, other], images=179)
    assert found.limit == "unknown"
    assert found.finding.endswith("179 validation images leave a gain of 3.1 points open")
    assert found.advice == "take cifar_resnet14; more validation images would settle it"


def test_an_error_of_zero_does_not_still_fall() -> None:
    found = judged(14, [candidate(8, 30.0, 28.0), candidate(14, 25.0, 20.0, 0.0, train=0.0), candidate(20, 35.0)])
    assert found.limit in ("nothing", "unknown")


@pytest.mark.parametrize(("depth", "width"), [(20, 1), (14, 2)])
def test_where_a_larger_network_is_ahead_after_equally_many_epochs_time_is_the_limit(depth: int, width: int) -> None:
    """14 layers are at 25 % after 1 epoch, 20 % after 2 and 19.9 % after 4; the larger one needs twice the time."""
    chosen, larger = candidate(14, 25.0, 20.0, 19.9, train=18.0), candidate(depth, 21.0, width=width)
    ahead = replace(larger, rounds=(replace(result(20, 19.0, seed=3), epochs=2**0.5),))
    found = judged(14, [chosen, ahead])
    assert found.limit == "train"
    name = larger.costs.network
    assert f"after 1.4 epochs {name} is at 19.0 % and cifar_resnet14 at about 22.5 %" in found.finding
    behind = replace(larger, rounds=(replace(result(10, 28.0, seed=3), epochs=2**0.5),))
    assert judged(14, [chosen, behind]).limit == "nothing"
    sooner = replace(larger, rounds=(replace(result(10, 28.0, seed=3), epochs=0.5),))
    assert judged(14, [chosen, sooner]).limit == "nothing"


def test_where_the_training_images_are_known_by_heart_the_data_is_the_limit() -> None:
    found = judged(14, [candidate(8, 30.0), candidate(14, 25.0, 20.1, 20.0, train=1.0), candidate(20, 27.0)])
    assert found.limit == "data"
    assert "1.0 % of its training images wrong and 20.0 % of others" in found.finding


def test_where_neither_twice_the_time_nor_size_helps_the_cheapest_equal_is_named() -> None:
    plane = [candidate(8, 20.2, 15.3), candidate(14, 20.0, 15.2, 15.5, train=14.0), candidate(20, 27.0)]
    found = judged(14, plane)
    assert (found.limit, found.alike) == ("nothing", ("cifar_resnet8",))
    assert found.finding.startswith("on 5,000 validation images neither 2 times the time nor more size than")
    assert found.advice == "take cifar_resnet14, or cifar_resnet8 where it must be cheap (0.8 ms)"


def test_what_was_not_tried_for_twice_the_time_nobody_can_say() -> None:
    plane = [candidate(8, 20.2, 15.3), candidate(14, 20.0, 15.2, 15.5, train=14.0), candidate(20, 27.0)]
    final = replace(plane[1].rounds[-1], seconds=35.0)
    short = [plane[0], replace(plane[1], rounds=(*plane[1].rounds[:-1], final)), plane[2]]
    found = judged(14, short)
    assert found.limit == "unknown"
    assert found.finding.endswith("whether more time or size helps: no training of it was twice as long as another")
    assert found.advice.endswith("(0.8 ms); --train-budget of 1.5 h would settle it")


def test_a_larger_network_that_was_left_early_leaves_the_question_open() -> None:
    plane = [candidate(8, 20.2, 15.3), candidate(14, 20.0, 15.2, 15.5, train=14.0), candidate(20, 20.4)]
    found = judged(14, plane)
    assert (found.limit, found.alike) == ("unknown", ("cifar_resnet8",))
    assert found.finding.endswith("cifar_resnet20 was left after 10 s without a clear difference")


def test_few_images_leave_the_question_open() -> None:
    wrong = (result(10, 20.0), result(20, 15.0), result(40, 15.0, train=14.0))
    few = [replace(one, answers=answers(one.validation_error_percent, n=40)) for one in wrong]
    chosen = replace(candidate(14), rounds=tuple(few))
    other = replace(candidate(20), rounds=(replace(result(10, 90.0), answers=answers(90.0, n=40)),))
    found = judged(14, [chosen, other], images=40)
    assert found.limit == "unknown"
    assert "40 validation images leave a gain of" in found.finding


def test_only_networks_of_the_last_round_cannot_be_told_apart() -> None:
    plane = [candidate(8, 30.0), candidate(14, 20.9), candidate(20, 20.0, 16.0, 15.0), candidate(32, 24.0, 16.1)]
    assert judged(20, plane).alike == ("cifar_resnet32",)
    worse = [*plane[:3], candidate(32, 24.0, 19.0)]
    assert judged(20, worse).alike == ()


def test_a_network_that_blew_up_is_told_apart() -> None:
    assert judged(14, [candidate(8, 20.0, failed=True), candidate(14, 20.0, 15.0)]).alike == ()


def test_a_network_of_another_family_is_named_and_is_not_larger() -> None:
    found = judged(14, [candidate(14, 20.0, 15.0), candidate(20, 20.0, family="densenet")], [dropped(20, "latency")])
    assert found.alike == ("cifar_densenet20",)
    assert found.limit == "train"


def test_one_network_alone_is_judged() -> None:
    found = judged(14, [candidate(14, 15.0)], [dropped(20, "latency")])
    assert found.limit == "latency"
    assert found.finding.startswith("cifar_resnet14 is the only network that was tried: larger ones miss")


def test_networks_are_compared_image_by_image() -> None:
    """Of 21 against 20 % the 50 images more are no chance where all others agree, and may be where they do not."""
    chosen = replace(candidate(14), rounds=(result(10, 20.0), result(20, 20.0)))
    for seed, alike in ((None, ()), (1, ("cifar_resnet8",))):
        other = replace(candidate(8, 21.0), rounds=(result(10, 21.0, seed=seed),))
        assert judged(14, [other, chosen]).alike == alike
    elsewhere = replace(result(10, 21.0), answers=replace(answers(21.0), images="in another order"))
    assert judged(14, [replace(candidate(8, 21.0), rounds=(elsewhere,)), chosen]).alike == ("cifar_resnet8",)


def test_three_times_the_time_goes_to_the_next_deeper_and_the_next_wider_that_it_holds() -> None:
    """Half of 1.5 hutes is 2,700 seconds."""
    plane = [candidate(8, 30.0), candidate(14, 25.0, 20.0, 15.0)]
    out = [dropped(32, "train", needed=2600.0), dropped(14, "train", width=2, needed=2800.0)]
    assert judged(14, plane, out).onward == "with 1.5 h: deeper (cifar_resnet32)"
    out[1] = dropped(14, "train", width=2, needed=2600.0)
    assert judged(14, plane, out).onward == "with 1.5 h: deeper (cifar_resnet32) or wider (cifar_resnet14_w2)"
    undecided = [*plane, candidate(20, 25.0)]
    assert judged(14, undecided, out).onward.startswith("with 1.5 h: deeper (cifar_resnet20) or wider")
    assert judged(14, [*plane, candidate(20, 40.0)]).onward == "with 1.5 h: cifar_resnet14 for 3 times as many epochs"


@given(st.lists(st.integers(0, 90), min_size=2, max_size=8))
def test_fewer_images_tell_fewer_networks_apart(errors: list[int]) -> None:
    """Images are those of the few, a hundred times each."""
    best = errors.index(min(errors))

    def alike(times: int) -> set[str]:
        plane = []
        for at, error in enumerate(errors):
            wrong = torch.randperm(100, generator=torch.Generator().manual_seed(at)) < error
            told = replace(result(10, float(error)), answers=Answers.of("the validation split", wrong.repeat(times)))
            plane.append(replace(candidate(6 * at + 8), rounds=(told,)))
        final = plane[best].rounds[0]
        return set(verdict(plane[best], final, plane, [], Budgets(60.0), 100 * times, 32).alike)

    assert alike(100) <= alike(1)


def test_the_order_of_the_candidates_does_not_matter() -> None:
    plane = [candidate(8, 30.0), candidate(14, 25.0, 24.0), candidate(20, 20.0, 16.0, 15.0)]
    assert judged(20, plane[::-1]) == judged(20, plane)
    assert judged(20, [*plane, replace(candidate(32), rounds=())]) == judged(20, plane)
