"""The rules of the diagnosis, on made-up curves."""

import random
import statistics
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t as student

from howdeep.search.diagnosis import Errors, Point, alike, diagnose, point_of, still_fell, trains_worse

MANY = 10**9
"""So many images that the binomial error is nothing."""
Curve = dict[int, tuple[list[float], list[float]]]
"""Depth → training errors and validation errors of the runs."""


def points(curve: Curve, images: int = 10_000) -> list[Point]:
    return [
        point_of(depth, [Errors(low, images, high, images) for low, high in zip(*runs, strict=True)])
        for depth, runs in curve.items()
    ]


FAILS: Curve = {
    8: ([4.0, 4.2, 4.1], [6.0, 6.2, 6.1]),
    20: ([0.4, 0.5, 0.3], [4.0, 4.2, 4.1]),
    56: ([60.0, 80.0, 70.0], [61.0, 81.0, 71.0]),
    110: ([90.0, 89.0, 88.0], [90.0, 90.0, 89.0]),
}
HE2015_PLAIN: Curve = {18: ([26.0], [27.94]), 34: ([27.2], [28.54])}
OVER_FITS: Curve = {
    8: ([6.0, 6.1, 6.2], [8.0, 8.1, 8.2]),
    20: ([2.0, 2.1, 2.2], [6.0, 6.1, 6.2]),
    56: ([0.5, 0.5, 0.6], [8.0, 8.2, 8.1]),
    110: ([0.0, 0.1, 0.0], [9.0, 9.2, 9.1]),
}
SATURATES: Curve = {
    8: ([6.0, 6.1, 6.2], [8.0, 8.1, 8.2]),
    20: ([0.5, 0.4, 0.4], [5.0, 5.3, 5.2]),
    56: ([0.3, 0.4, 0.3], [5.1, 4.9, 5.2]),
    110: ([0.2, 0.1, 0.2], [5.0, 5.2, 5.1]),
}
GAINS: Curve = {
    20: ([2.0, 2.1, 2.0], [8.7, 8.8, 8.9]),
    56: ([0.9, 0.8, 0.9], [7.0, 6.9, 7.1]),
    110: ([0.2, 0.2, 0.3], [6.0, 6.1, 5.9]),
}


@pytest.mark.parametrize(
    ("curve", "headline", "best", "enough"),
    [
        (FAILS, "optimisation fails beyond 20 layers", 20, 20),
        (HE2015_PLAIN, "optimisation fails beyond 18 layers", 18, 18),
        (OVER_FITS, "over-fits beyond 20 layers", 20, 20),
        (SATURATES, "saturates at 20 layers", 56, 20),
        (GAINS, "still gains at 110 layers", 110, 110),
    ],
)
def test_the_four_diagnoses(curve: Curve, headline: str, best: int, enough: int) -> None:
    found = diagnose(points(curve, 50_000))
    assert (found.headline, found.best, found.enough) == (headline, best, enough)


def test_what_may_be_much_worse_is_not_enough() -> None:
    """On 40 images 20 % and 12 % are a standard error apart, and up to 24 points; the same on 10,000 is a gain."""
    curve: Curve = {8: ([1.0], [20.0]), 56: ([1.0], [12.0])}
    found = diagnose(points(curve, 40))
    assert (found.headline, found.best, found.enough) == ("not settled", 56, None)
    assert found.evidence == (
        "validation error of 8 layers, 20.0 % (9.1–35.6), is above that of 56, 12.0 % (3.9–26.2) (95 %), by chance"
        " or by more than 10 points: more runs or validation images would tell"
    )
    assert diagnose(points(curve)).kind == "still gains"
    between: Curve = {8: ([1.0], [17.0]), 20: ([1.0], [12.5]), 56: ([1.0], [12.0])}
    assert diagnose(points(between, 150)).headline == "saturates at 20 layers"


def test_the_evidence_is_in_numbers() -> None:
    assert diagnose(points(FAILS)).evidence == (
        "training error rises from 0.4 % (0.2–0.6) at 20 layers to 89.0 % (86.5–91.5) at 110 (95 %)"
    )
    assert (
        "from 4.0 points (3.7 to 4.3) at 20 layers to 9.1 points (8.7 to 9.4) at"
        in diagnose(points(OVER_FITS)).evidence
    )
    assert diagnose(points(SATURATES)).evidence.endswith("validation error, 95 %; lowest: 5.1 % (4.7–5.4) at 56")
    assert "7.0 % (6.7–7.3) at 56 layers to 6.0 % (5.7–6.3) at 110" in diagnose(points(GAINS)).evidence


def test_a_ladder_that_has_not_learned_its_training_images_gets_no_verdict() -> None:
    """Of ten classes guessing gets 90 % wrong; a deep network that fails for good is no such ladder."""
    curve: Curve = {8: ([61.0], [62.0]), 20: ([59.0], [60.0]), 56: ([60.0], [61.0])}
    found = diagnose(points(curve), 90.0)
    assert (found.headline, found.best, found.enough) == ("undertrained, no verdict", None, None)
    assert found.evidence.startswith(
        "training error is 59.0 % (58.0–60.0), 95 %, at 20 layers; guessing gets 90 % wrong"
    )
    assert diagnose(points({8: ([44.0], [60.0]), 20: ([43.0], [60.0])}), 90.0).kind == "saturates"
    assert diagnose(points(FAILS), 90.0).kind == "optimisation fails"
    falling = point_of(110, [Errors(70.0, 10_000, 71.0, 10_000, still_fell=True)])
    assert "at 110 layers and still fell at the end" in diagnose([*points(FAILS)[:2], falling], 90.0).evidence


@pytest.mark.parametrize(
    ("errors", "fell"),
    [([90.0] * 10, False), ([90, 80, 70, 60, 60.2], False), ([90, 80, 70, 60, 58], True), ([50.0], False)],
)
def test_an_error_is_settled_where_the_last_quarter_changed_nothing(errors: list[float], fell: bool) -> None:
    assert still_fell(errors, 10_000) == fell
    assert not still_fell([90, 80, 70, 60, 58], 100)  # two points of a hundred images are chance


def test_a_failure_is_told_beyond_the_last_depth_that_trains() -> None:
    curve = FAILS | {32: ([0.6, 0.5, 0.4], [4.4, 4.5, 4.3])}
    assert diagnose(points(curve)).headline == "optimisation fails beyond 32 layers"


def test_training_error_comes_before_the_gap() -> None:
    worse_in_both: Curve = {8: ([1.0] * 3, [3.0] * 3), 20: ([5.0] * 3, [15.0] * 3)}
    assert diagnose(points(worse_in_both)).kind == "optimisation fails"


def test_a_rise_before_the_best_depth_is_no_failure() -> None:
    """Shallow networks may have seen less of an optimum than deep ones: what counts is what comes after the best."""
    curve: Curve = {8: ([1.0] * 3, [9.0] * 3), 20: ([3.0] * 3, [7.0] * 3), 56: ([2.0] * 3, [5.0] * 3)}
    assert diagnose(points(curve)).kind == "still gains"


def test_a_gain_must_be_against_every_shallower_depth() -> None:
    curve: Curve = {8: ([1.0] * 3, [4.0] * 3), 20: ([1.0] * 3, [6.0] * 3), 56: ([1.0] * 3, [3.9] * 3)}
    assert diagnose(points(curve)).headline == "saturates at 8 layers"


@pytest.mark.parametrize(("rise", "kind"), [(0.4, "saturates"), (0.6, "optimisation fails")])
def test_less_than_half_a_point_is_not_worth_a_word(rise: float, kind: str) -> None:
    curve: Curve = {8: ([1.0] * 3, [3.0] * 3), 20: ([1.0 + rise] * 3, [3.0 + rise] * 3)}
    assert diagnose(points(curve, MANY)).kind == kind


def test_a_rise_within_the_noise_is_none() -> None:
    noisy: Curve = {8: ([1.0, 5.0, 3.0], [4.0, 8.0, 6.0]), 20: ([2.0, 7.0, 4.0], [5.0, 10.0, 7.0])}
    assert diagnose(points(noisy, MANY)).kind == "saturates"


def test_runs_that_fail_unevenly_are_told_by_their_ranks() -> None:
    """Where some seeds fail and others nearly do, the standard error is as large as the rise."""
    curve: Curve = {8: ([0.5, 0.7, 0.3], [2.0, 2.1, 2.2]), 56: ([5.0, 85.0, 40.0], [7.0, 86.0, 41.0])}
    one, other = (point.training for point in points(curve))
    assert one
    assert other
    assert other.mean - one.mean < 2.5 * other.standard_error
    assert diagnose(points(curve)).kind == "optimisation fails"
    two: Curve = {depth: (low[:2], high[:2]) for depth, (low, high) in curve.items()}
    assert diagnose(points(two)).kind == "saturates"


@pytest.mark.parametrize(("images", "kind"), [(200, "saturates"), (20_000, "optimisation fails")])
def test_one_seed_is_judged_by_the_number_of_its_images(images: int, kind: str) -> None:
    assert diagnose(points({8: ([3.0], [5.0]), 20: ([5.0], [7.0])}, images)).kind == kind


def test_equal_runs_do_not_make_few_images_certain() -> None:
    (few,) = points({8: ([2.0] * 3, [3.0] * 3)}, 100)
    assert few.validation
    assert few.validation.standard_error == pytest.approx(1.0, rel=0.1)


def test_a_run_that_is_not_finite_is_a_failure_at_whatever_depth() -> None:
    ladder = points(SATURATES)[:-1]
    some = diagnose([*ladder, point_of(110, [Errors(1.0, 100, 2.0, 100)], failed=2)])
    assert some.headline == "optimisation fails beyond 56 layers"
    assert some.evidence == "2 of 3 runs of 110 layers ended in numbers that are not finite"
    assert diagnose([*ladder, point_of(110, [], failed=1)]).kind == "optimisation fails"
    none = diagnose([point_of(8, [], failed=1), point_of(20, [], failed=1)])
    assert (none.headline, none.best, none.enough) == ("optimisation fails", None, None)


def test_one_depth_is_no_ladder() -> None:
    with pytest.raises(ValueError, match="two depths"):
        diagnose(points({8: ([1.0], [2.0])}))


percent = st.floats(0, 40).map(lambda value: round(value, 3))
runs = st.lists(st.tuples(percent, percent), min_size=3, max_size=3)
curves = st.lists(runs, min_size=2, max_size=5)


def ladder(found: list[list[tuple[float, float]]], low: float = 0.0, high: float = 0.0) -> list[Point]:
    return [
        point_of(8 + 6 * step, [Errors(one + low, MANY, other + high, MANY) for one, other in errors])
        for step, errors in enumerate(found)
    ]


@given(curves, st.sampled_from([1.0, 4.0, 8.0]))
def test_only_differences_count(found: list[list[tuple[float, float]]], offset: float) -> None:
    """Errors that are all higher by the same, in training, validation or both, are the same ladder, once learned."""
    plain = diagnose(ladder(found))
    for moved in (ladder(found, offset), ladder(found, 0, offset), ladder(found, offset, offset)):
        other = diagnose(moved)
        assert (other.kind, other.at, other.best, other.enough) == (plain.kind, plain.at, plain.best, plain.enough)


@given(curves, st.randoms())
def test_neither_the_order_of_depths_nor_that_of_runs_counts(
    found: list[list[tuple[float, float]]], chance: random.Random
) -> None:
    shuffled = [chance.sample(errors, len(errors)) for errors in found]
    mixed = ladder(shuffled)
    chance.shuffle(mixed)
    one, other = diagnose(ladder(found)), diagnose(mixed)
    assert (one.kind, one.at, one.enough) == (other.kind, other.at, other.enough)


@given(curves)
def test_what_a_diagnosis_says_is_so(found: list[list[tuple[float, float]]]) -> None:
    ladder_ = ladder(found)
    diagnosis, by_depth = diagnose(ladder_), {point.depth: point for point in ladder_}
    best, deepest, enough = by_depth[diagnosis.best or 0], ladder_[-1], by_depth[diagnosis.enough or ladder_[-1].depth]
    assert all(best.validation.mean <= point.validation.mean for point in ladder_)  # type: ignore[union-attr]
    assert diagnosis.enough is None or alike(enough.validation, best.validation)  # type: ignore[arg-type]
    rises = trains_worse(deepest.training, best.training)  # type: ignore[arg-type]
    assert (diagnosis.kind == "optimisation fails") == rises
    if diagnosis.kind == "still gains":
        assert diagnosis.enough == diagnosis.best == deepest.depth


@pytest.mark.parametrize("seeds", [1, 3, 5])
def test_noise_alone_saturates(seeds: int) -> None:
    """Flat ladders of four depths, with binomial noise of 500 images and that of the seeds."""
    chance, kinds = random.Random(0), []
    for _ in range(200):
        curve: Curve = {}
        for depth in (8, 20, 56, 110):
            own = [sum(chance.random() < 0.05 for _ in range(500)) / 5 for _ in range(seeds)]
            curve[depth] = ([max(0.0, chance.gauss(1, 0.4)) for _ in range(seeds)], own)
        kinds.append(diagnose(points(curve, 500)).kind)
    assert kinds.count("saturates") >= 0.95 * len(kinds)


@pytest.mark.parametrize("count", [3, 5, 11, 12, 30, 100])
def test_the_interval_over_runs_is_students(count: int) -> None:
    chance = random.Random(count)
    values = [chance.uniform(20, 30) for _ in range(count)]
    training = point_of(8, [Errors(value, MANY, 50.0, MANY) for value in values]).training
    assert training
    expected = student.interval(0.95, count - 1, statistics.fmean(values), statistics.stdev(values) / count**0.5)
    assert (training.low, training.high) == pytest.approx(expected, rel=2e-3)


def test_of_two_runs_the_range_is_told_and_no_interval_leaves_0_to_100() -> None:
    """Student's of 1 and 5 % would reach from −22 to 28 %."""
    training = point_of(8, [Errors(value, MANY, 50.0, MANY) for value in (1.0, 5.0)]).training
    assert training
    assert (training.low, training.high) == (1.0, 5.0)
    three = point_of(8, [Errors(value, MANY, 99.0, MANY) for value in (0.0, 1.0, 5.0)])
    assert three.training
    assert three.training.low == 0.0


def test_numbers_need_no_torch() -> None:
    program = "import sys, howdeep.search.diagnosis; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
