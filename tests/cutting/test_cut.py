"""Cutting to a budget: the greedy order, the budgets and their limits, and what is kept when it is interrupted."""

import math
from collections.abc import Callable
from functools import partial, partialmethod
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.analysis.cases import classifier, numbers
from tests.oracles import in_turn, small_network
from torch import nn

from howdeep import Batch, Chain, UserError
from howdeep.chain import run
from howdeep.cutting import cut as cutting
from howdeep.cutting.cut import cut
from howdeep.cutting.frontier import AT_A_TIME, WAYS, Frontier
from howdeep.cutting.images import Images
from howdeep.cutting.options import CutBudget
from howdeep.cutting.records import Cut
from howdeep.deploying.latency import Written
from howdeep.runs.resume import Journal
from howdeep.runtime.timing import Timing
from howdeep.show.figures import frontier as chart
from howdeep.show.sentences import cut_finding
from howdeep.transform.norms import reestimate
from howdeep.transform.refitting import refitted
from howdeep.transform.removal import without
from howdeep.util.records import from_json, to_json
from howdeep.util.text import minus


def batches(count: int = 3, size: int = 20) -> list[Batch]:
    stream = torch.Generator().manual_seed(5)
    pixels = torch.randn(count, size, 3, 8, 8, generator=stream)
    labels = torch.randint(10, (count, size), generator=stream)
    return [Batch(images, answers, size) for images, answers in zip(pixels, labels, strict=True)]


def network(seed: int = 2) -> Chain:
    """Six units, narrow: repairing one solves equations in nine times as many unknowns as it has channels."""
    return small_network("resnet A", seed=seed, width=4)


def untimed(*_: object, **__: object) -> None:
    raise AssertionError("this need not be measured")


def sure() -> tuple[Chain, list[Batch]]:
    """Return a network that tells images apart, and labels on which it is always right: every cut costs."""
    chain, images = network(seed=4), batches()
    with torch.no_grad():
        chain.head.linear.bias -= torch.cat([chain(one.images) for one in images]).mean(0)  # type: ignore[union-attr,operator]
        return chain, [Batch(one.images, chain(one.images).argmax(1), one.total) for one in images]


def test_the_order_is_that_of_a_loop_over_whole_passes() -> None:
    chain, images = small_network("resnet C", seed=2), batches()
    found = list(Frontier(chain, Images(images, images, images)).removals())
    pixels, out = torch.cat([one.images for one in images]), list[int]()
    for removal in found:
        distances = {}
        for unit in set(range(len(chain))) - set(out):
            cut = refitted(chain, [*out, unit], [one.images for one in images], reach=1)
            with torch.no_grad():
                whole, rest = (run(one.steps(), one.stem(pixels)) for one in (chain, cut))
            distances[unit] = float((rest - whole).square().sum() / whole.square().sum())
        best = min(distances, key=distances.__getitem__)
        assert removal.index == best + 1
        assert removal.distance == pytest.approx(distances[best], rel=1e-4)
        out.append(best)
    assert sorted(out) == list(range(len(chain)))


def test_distances_of_a_chain_on_paper() -> None:
    """The head reads x·∏(1 + w): the unit that changes it least goes first."""
    chain, batch = classifier([1.0, -0.5, 0.1]), numbers([3.0], [0])
    order = list(Frontier(chain, Images([batch], [batch], [batch])).removals())
    assert [removal.index for removal in order] == [3, 1, 2]
    whole = 3 * 2 * 0.5 * 1.1
    expected = [(rest / whole - 1) ** 2 for rest in (3 * 2 * 0.5, 3 * 0.5, 3)]
    assert [removal.distance for removal in order] == pytest.approx(expected, rel=1e-5)


def test_of_many_units_several_go_at_a_time() -> None:
    chain, few = classifier([0.01 * number for number in range(9)]), [numbers([3.0, 1.5], [0, 1])]
    frontier = Frontier(chain, Images(few, few, few))
    removals, first = frontier.removals(), len(chain) // AT_A_TIME
    for _ in range(first):
        next(removals)
    assert rounds(frontier) == ["without 0 and one more of 9"]
    next(removals)
    assert rounds(frontier)[1:] == [f"without {first} and one more of {9 - first}"]


def rounds(frontier: Frontier) -> list[str]:
    return [name for name in frontier.journal.steps if name.startswith("without")]


@pytest.fixture(scope="module")
def frontier() -> tuple[Chain, Cut, Journal]:
    """A network, its whole frontier, and what any cut of it finds out: the distances of every round, and the errors."""
    chain, journal = network(), Journal()
    found = cut(chain, batches(), journal=journal)
    del journal.steps["choice"]
    return chain, found, journal


@pytest.fixture
def known(frontier: tuple[Chain, Cut, Journal]) -> Journal:
    return Journal(steps=dict(frontier[2].steps))


@pytest.fixture(scope="module")
def whole(frontier: tuple[Chain, Cut, Journal]) -> tuple[Chain, Cut]:
    """What a cut to two units gives in one go."""
    journal = Journal(steps=dict(frontier[2].steps))
    return cut_out(network(), batches(), budget=CutBudget(units=2), journal=journal)


def test_units_that_stay_are_as_many_as_asked_for(whole: tuple[Chain, Cut]) -> None:
    (smaller, found), images = whole, batches()
    assert (len(smaller), found.chosen, found.points[-1].size.units) == (2, 4, 2)
    assert found.choice is found.points[-1]
    assert found.points[-1].best.error_percent == pytest.approx(error(smaller, images))


def cut_out(chain: Chain, images: Images | list[Batch], **options: Any) -> tuple[Chain, Cut]:
    """Return what was cut, and how it was found."""
    found = cut(chain, images, **options)
    assert found.chain is not None
    return found.chain, found


def error(chain: nn.Module, images: list[Batch]) -> float:
    with torch.no_grad():
        wrong = [(chain(batch.images).argmax(1) != batch.labels).float().mean() for batch in images]
    return 100 * float(sum(wrong)) / len(wrong)


def test_macs_hold_and_with_one_unit_more_they_would_not(known: Journal) -> None:
    found = cut(network(), batches(), budget=CutBudget(macs_share=0.5), journal=known)
    sizes = [found.original.macs, *(point.size.macs for point in found.points)]
    assert sizes[-1] <= 0.5 * sizes[0] < sizes[-2]
    absolute = CutBudget(macs=0.5 * sizes[0])
    assert [absolute.excess(point.size, found.original) is None for point in found.points[-2:]] == [False, True]


def clocked(*factors: float) -> Callable:
    """Return a stopwatch on which a unit takes a millisecond, times these factors each time that cuts are shown."""
    left = list(factors)

    def timed(chains: list[Chain | Written], *_: object, **__: object) -> list[Timing]:
        factor = left.pop(0) if left and len(chains) > 2 else 1.0
        milliseconds = [factor * len(one.chain if isinstance(one, Written) else one) for one in chains]
        return [Timing(one, (one, one), 1) for one in milliseconds]

    return timed


def test_a_latency_that_is_promised_is_the_one_that_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Timed again beside the others, that without three units is too slow: one more goes, or all are timed anew."""
    chain, images = classifier([0.1] * 6), [numbers([3.0, 1.5], [0, 1])]
    for factors, stay in (((1.0,), 3), ((1.2, 1.0), 3), ((1.2, 1.2), 2)):
        monkeypatch.setattr(cutting, "latencies", clocked(*factors))
        smaller, found = cut_out(chain, images, budget=CutBudget(latency_ms=3.5))
        assert found.choice is not None
        assert (len(smaller), found.choice.size.latency.median_ms) == (stay, pytest.approx(factors[-1] * stay))


@pytest.mark.parametrize("least", [True, False])
def test_an_error_lets_as_many_units_go_as_hold_it(
    least: bool, frontier: tuple[Chain, Cut, Journal], known: Journal
) -> None:
    chain, every, _ = frontier
    changes = {point.out: point.best.change for point in every.points}
    limit = max(1e-9, min(changes[out] for out in range(1, cutting.PATIENCE + 1))) if least else 100.0
    # No more are tried after several in a row that cost too much.
    last = next((out for out in changes if all(changes.get(out - k, 0) > limit for k in range(cutting.PATIENCE))), 99)
    holding = [out for out, change in changes.items() if change <= limit and out < last]
    assert cut(chain, batches(), budget=CutBudget(error_increase=limit), journal=known).chosen == max(holding)


def test_a_repair_is_kept_for_each_network_where_it_answers_the_calibration_images_better() -> None:
    """Labels are what one of the networks answers: as cut, or repaired in one of the ways."""
    chain, pixels = small_network("resnet A", seed=2), [batch.images for batch in batches()]
    for kept, out in (("recalibrated", 1), ("cut", 4), ("refitted", 2)):
        best = refitted(chain, [out - 1], pixels) if kept == "refitted" else without(chain, [out - 1])
        if kept == "recalibrated":
            reestimate(best, pixels)
        with torch.no_grad():
            images = [Batch(few, best(few).argmax(1), len(few)) for few in pixels]
        smaller, found = cut_out(chain, Images(images[:2], images, images), remove=[out])
        assert found.choice is not None
        assert found.best is not None
        assert (found.kept, found.best) == (kept, getattr(found.choice, kept))
        assert found.best.error_percent == 0 < max(getattr(found.choice, way).error_percent for way in WAYS)
        assert minus(f" %, {found.best.change:+.1f} points (95 %: ") in cut_finding(found)
        for name, value in best.state_dict().items():
            torch.testing.assert_close(smaller.state_dict()[name], value)


def test_the_whole_frontier_chooses_nothing(frontier: tuple[Chain, Cut, Journal]) -> None:
    chain, found, _ = frontier
    assert found.chain is chain
    assert (found.chosen, [point.out for point in found.points]) == (None, [1, 2, 3, 4, 5, 6])
    assert from_json(Cut, to_json(found)) == found
    assert chart(found).to_dict()


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        (CutBudget(latency_ms=1e-6), "no cut of this network holds latency of 1e-06 ms: .* ms is the smallest"),
        (CutBudget(macs=1000), "no cut of this network holds macs of 1,000 MACs: .* MACs is the smallest"),
        (CutBudget(units=6), "units 6 is not allowed: it has 6 units, and at most 5 can stay"),
        (CutBudget(latency_ms=1e6), "holds this budget as it is"),
        (CutBudget(units=5, error_increase=1e-9), "the budgets contradict each other: .* 1 units out, which costs"),
    ],
)
def test_a_budget_that_cannot_be_is_one_line(budget: CutBudget, said: str) -> None:
    chain, images = sure()
    # Units that were refitted on all of them would make no error.
    with pytest.raises(UserError, match=said):
        cut(chain, Images(images, images, images[:1]), budget=budget)


def test_units_that_cannot_go_set_the_smallest_number_that_can_stay() -> None:
    with pytest.raises(UserError, match="units of 1 units: 2 units is the smallest possible"):
        cut(small_network("plain"), batches(), budget=CutBudget(units=1))


def test_named_units_go_and_none_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Frontier, "_distances", untimed)
    chain, images = network(), batches()
    smaller, found = cut_out(chain, images, remove=[5, 2])
    assert [(one.index, one.name, one.distance) for one in found.order] == [(2, "unit 2", None), (5, "unit 5", None)]
    assert (len(chain), len(smaller), found.chosen, found.calibration_images) == (6, 4, 2, 60)
    assert found.choice is not None
    assert found.points == (found.choice,)
    assert found.choice.size.units == 4
    assert found.choice.cut.error_percent == pytest.approx(error(without(chain, [1, 4]), images))
    assert found.choice.best.error_percent == pytest.approx(error(smaller, images))
    assert from_json(Cut, to_json(found)) == found
    assert chart(found).to_dict()


def test_what_a_named_unit_costs_on_paper() -> None:
    """Scores (x·∏(1 + w), 1), label 0: of 1.1·x > 1 remains 0.55·x > 1 without the first unit."""
    chain, batch = classifier([1.0, -0.5, 0.1]), numbers([3.0, 1.5, 1.0, 0.5], [0, 0, 0, 0])
    found = cut(chain, [batch], remove=[1])
    assert found.choice is not None
    assert (found.baseline.error_percent, found.choice.best.change, found.choice.kept) == (25.0, 50.0, "cut")


def test_all_units_can_be_named() -> None:
    chain, images = small_network("densenet_bc"), batches()
    smaller, found = cut_out(chain, images, remove=range(1, len(chain) + 1))
    assert (len(smaller), found.chosen, found.points[0].size.units) == (0, len(chain), 0)


@pytest.mark.parametrize(
    ("name", "remove", "said"),
    [
        ("resnet A", [3, 1, 3], "remove 3 1 3 is not allowed: unit 3 is named twice"),
        ("resnet A", [1, 7], "remove 7 is not allowed: the network has 6 units, numbered from 1"),
        ("resnet A", [0], "remove 0 is not allowed: the network has 6 units, numbered from 1"),
        ("plain", [1, 3], "remove 3 is not allowed: unit 3 changes the shape and has no shortcut; .* can go: 1$"),
    ],
)
def test_a_unit_that_cannot_go_is_one_line(name: str, remove: list[int], said: str) -> None:
    with pytest.raises(UserError, match=said):
        cut(small_network(name), batches(1), remove=remove)


def test_named_units_and_a_budget_contradict_each_other() -> None:
    with pytest.raises(UserError, match=r"remove 1 2 and a budget \(units, latency\) contradict each other: give one"):
        cut(small_network("resnet A"), batches(1), remove=[1, 2], budget=CutBudget(units=2, latency_ms=5))


@pytest.mark.parametrize(
    ("name", "value"),
    in_turn(["units", "macs", "macs_share", "latency_ms", "error_increase"], [0, -1, math.nan, math.inf]),
)
def test_budgets_are_above_zero(name: str, value: float) -> None:
    with pytest.raises(UserError, match="must be above 0 and finite"):
        CutBudget(**{name: value})  # type: ignore[arg-type]


def test_an_interrupted_cut_ends_with_the_same_bits(
    whole: tuple[Chain, Cut], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three times: before the first round, between two rounds, and between two of the cuts that are shown."""
    chain, images, budget = network(), batches(), CutBudget(units=2)
    smaller, once = whole
    place, computed = tmp_path / "kept.json", Journal.result

    def interrupted(stop: int, self: Journal, name: str, compute: Callable) -> object:
        if len(self.steps) == stop:
            raise KeyboardInterrupt
        return computed(self, name, compute)

    for stop in (1, 4, 8):
        with monkeypatch.context() as patch:
            patch.setattr(Journal, "result", partialmethod(partial(interrupted, stop)))
            with pytest.raises(KeyboardInterrupt):
                cut(chain, images, budget=budget, journal=Journal.open(place, {"seed": 1}))
        journal = Journal.open(place, {"seed": 1})
        assert len(journal.steps) == stop
    again, found = cut_out(chain, images, budget=budget, journal=journal)
    assert found.order == once.order
    ways = [(point.cut, point.recalibrated, point.refitted, point.kept) for point in found.points]
    assert ways == [(point.cut, point.recalibrated, point.refitted, point.kept) for point in once.points]
    assert all(
        torch.equal(one, other)
        for one, other in zip(again.state_dict().values(), smaller.state_dict().values(), strict=True)
    )
    with pytest.raises(UserError, match=r"holds work of another seed \(1, now 2\)"):
        Journal.open(place, {"seed": 2})


def test_what_was_kept_is_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chain, images, place = network(), batches(), tmp_path / "kept.json"
    first = cut(chain, images, budget=CutBudget(units=5), journal=Journal.open(place, {}))
    monkeypatch.setattr(cutting, "latencies", untimed)
    monkeypatch.setattr(Frontier, "_distances", untimed)
    assert cut(chain, images, budget=CutBudget(units=5), journal=Journal.open(place, {})) == first
