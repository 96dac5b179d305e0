"""Cut to the first units: which classifiers are fitted, on what, and which of them is kept."""

from collections.abc import Callable

import pytest
import torch
from tests.oracles import small_network
from tests.show import cases
from torch import Tensor, nn

from howdeep import Batch, Chain, Survival, UserError
from howdeep.analysis import depth_costs
from howdeep.analysis.depths import Depth, Fitted, Probe
from howdeep.analysis.evaluation import Answers as Answered
from howdeep.analysis.linear import Features, regression
from howdeep.analysis.probe import probe
from howdeep.cutting import first
from howdeep.cutting.cut import cut
from howdeep.cutting.first import First, FirstUnits, better, depths_within, or_gaps
from howdeep.cutting.frontier import Answers
from howdeep.cutting.images import Images
from howdeep.cutting.options import CutBudget
from howdeep.cutting.records import Cut
from howdeep.runs.resume import Journal
from howdeep.runtime.timing import Timing
from howdeep.util.records import from_json, to_json

CLASSES = 3
"""Fewer than the ten of the network."""


def striped(count: int, seed: int) -> list[Batch]:
    """Return noise with a bright row in a third of the image that is its class: most of it can be told."""
    stream = torch.Generator().manual_seed(seed)
    batches = []
    for _ in range(count):
        labels = torch.randint(CLASSES, (20,), generator=stream)
        x = torch.randn(20, 3, 8, 8, generator=stream)
        x[torch.arange(20), :, 3 * labels] += 0.7
        batches.append(Batch(x, labels, 20))
    return batches


TRAIN, VALIDATION = striped(6, 1), striped(3, 2)


@torch.no_grad()
def fitted(read: Callable[[Tensor], Tensor]) -> tuple[list[Tensor], float]:
    """Return the logits of the regression on features of the validation images, and its error."""
    train, validation = (
        Features(torch.cat([read(one.images) for one in some]), torch.cat([one.labels for one in some]))
        for some in (TRAIN, VALIDATION)
    )
    linear, sums = regression(train, validation, CLASSES)
    return [read(one.images).double() @ linear.weight.T + linear.bias for one in VALIDATION], sums.error_percent


def behind(chain: Chain, units: int) -> Callable[[Tensor], Tensor]:
    """Return what gives the activations that the next unit reads, or the head."""

    def read(x: Tensor) -> Tensor:
        seen: list[Tensor] = []
        following = [*chain.units, chain.head][units]
        hook = following.register_forward_pre_hook(lambda _, given: seen.append(given[0].clone()))
        chain(x)
        hook.remove()
        return seen[0]

    return read


def before_linear(chain: Chain, units: int) -> Callable[[Tensor], Tensor]:
    """Return what gives the features of the old head on the activations behind the first units."""
    read, layers = behind(chain, units), list(chain.head)[:-1]  # type: ignore[call-overload]
    return lambda x: nn.Sequential(*layers)(read(x))


def preferring(head: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a head be kept: the averages stand before the old head."""
    monkeypatch.setattr(first, "better", lambda *_: int(head == "kept"))


@pytest.mark.parametrize("head", ["pooled", "kept"])
@pytest.mark.parametrize("rule", [None, Survival("linear", 0.5)])
def test_the_network_is_the_regression_on_what_its_first_units_give(
    head: str, rule: Survival | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    preferring(head, monkeypatch)
    chain = small_network("preresnet", seed=2)
    chain.rule = rule
    found = cut(chain, VALIDATION, first=5, train=TRAIN)
    averages, old = (lambda x: behind(chain, 5)(x).mean((2, 3))), before_linear(chain, 5)
    expected, error = fitted(averages if head == "pooled" else old)
    assert found.chain is not None
    for batch, logits in zip(VALIDATION, expected, strict=True):
        torch.testing.assert_close(found.chain(batch.images).double(), logits, rtol=1e-4, atol=1e-4)
    assert (len(found.chain), found.chain.rule, found.head) == (5, None, head)
    assert found.best is not None
    assert found.best.error_percent == pytest.approx(error)
    whole = fitted(before_linear(chain, len(chain)))[1]
    assert (found.baseline.error_percent, found.best.change) == pytest.approx((whole, error - whole))
    assert [one.head and one.head.features for one in found.points] == [64, 64]
    assert (found.original.units, found.choice and found.choice.size.units) == (6, 5)


def test_the_old_network_stays_as_it_is() -> None:
    chain = small_network("resnet A", seed=2).train()
    before = {name: value.clone() for name, value in chain.state_dict().items()}
    cut(chain, VALIDATION, first=5, train=TRAIN)
    assert chain.training
    assert all(torch.equal(before[name], value) for name, value in chain.state_dict().items())


@pytest.mark.parametrize("units", [0, 3])
def test_an_old_head_that_reads_other_shapes_is_not_tried(units: int) -> None:
    found = cut(small_network("resnet A", seed=2), VALIDATION, first=units, train=TRAIN)
    assert [one.head and one.head.name for one in found.points] == ["pooled"]
    assert (found.chosen, [one.index for one in found.order]) == (6 - units, list(range(6, units, -1)))


def test_all_units_may_stay() -> None:
    """With the old head that is the network with another classifier, and costs nothing."""
    found = cut(small_network("resnet A", seed=2), VALIDATION, first=6, train=TRAIN)
    kept = next(one for one in found.points if one.head is not None and one.head.name == "kept")
    assert (found.chosen, found.order, kept.cut.change, kept.size.macs) == (0, (), 0.0, found.original.macs)


def test_a_network_that_averages_already_has_no_other_old_head() -> None:
    once = cut(small_network("resnet A", seed=2), VALIDATION, first=5, train=TRAIN).chain
    assert once is not None
    assert [one.head and one.head.name for one in cut(once, VALIDATION, first=4, train=TRAIN).points] == ["pooled"]


@torch.no_grad()
def test_strength_is_chosen_on_the_calibration_and_errors_are_those_of_the_evaluation() -> None:
    few = striped(1, 3)
    found = cut(small_network("resnet A", seed=2), Images(few, VALIDATION, []), first=3, train=TRAIN)
    assert found.chain is not None
    assert found.choice is not None
    wrong = torch.cat([found.chain(one.images).argmax(1) != one.labels for one in VALIDATION])
    assert found.choice.cut.error_percent == pytest.approx(100 * float(wrong.float().mean()))
    assert (found.baseline.n, found.calibration_images, found.classifier_images) == (60, 20, 120)


def answers(*wrong: bool) -> Answers:
    return Answers(torch.tensor(wrong * 10), 0.0)


@pytest.mark.parametrize(
    ("heads", "milliseconds", "kept"),
    [
        ([answers(True, False), answers(False, False)], [1.0, 9.0], 1),  # five fewer errors of ten, whatever the time
        ([answers(False, False), answers(False, True)], [9.0, 1.0], 0),
        ([answers(False, True), answers(True, False)], [9.0, 1.0], 1),  # as many, of others: the faster one
        ([answers(False, True), answers(False, True)], [1.0, 9.0], 0),
        ([answers(True, True)], [1.0], 0),
    ],
)
def test_the_head_with_fewer_errors_is_kept_or_the_faster_one(
    heads: list[Answers], milliseconds: list[float], kept: int
) -> None:
    assert better(heads, milliseconds) == kept


def test_the_record_is_read_back_and_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    preferring("kept", monkeypatch)
    found = cut(small_network("resnet A", seed=2), VALIDATION, first=5, train=TRAIN)
    assert from_json(Cut, to_json(found)) == found
    assert found.finding.startswith("the first 5 of 6 units: ")
    assert found.choice is found.points[1]
    assert found.figure().to_dict()
    for wide in (False, True):
        rows = found.table(wide=wide).rows
        assert [row[:3] for row in rows] == [
            ("", "whole network", "6"),
            ("", "64 averages", "5"),
            ("→", "64 of the head", "5"),
        ]


def test_finished_steps_are_not_done_again(monkeypatch: pytest.MonkeyPatch) -> None:
    chain, journal = small_network("resnet A", seed=2), Journal()
    images = Images(VALIDATION, VALIDATION, [])
    work = FirstUnits(chain=chain, images=images, train=lambda _: TRAIN, classes=CLASSES, journal=journal)
    once = work.result(5)
    for name in ("regression", "latencies"):
        monkeypatch.delattr(first, name)
    again = work.result(5)
    assert again.cut == once.cut
    for one, other in ((once.whole, again.whole), (once.cut.chain, again.cut.chain)):
        assert one is not None
        assert other is not None
        assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


def test_of_two_heads_alike_the_faster_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """On one image no difference is more than chance."""
    one = [Batch(VALIDATION[0].images[:2], torch.tensor([0, 1]), 2)]
    for milliseconds, kept in (((9.0, 1.0, 2.0), "pooled"), ((9.0, 2.0, 1.0), "kept")):
        times = [Timing(each, (each, each), 1) for each in milliseconds]
        monkeypatch.setattr(first, "latencies", lambda *_, times=times, **__: times)
        assert cut(small_network("resnet A", seed=2), one, first=5, train=TRAIN).head == kept


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"first": 12, "train": TRAIN}, "first 12 is not allowed: the network has 6 units; the nearest is 6"),
        ({"first": -1, "train": TRAIN}, "first -1 is not allowed: the network has 6 units; the nearest is 0"),
        ({"first": 3}, "first 3 needs train: labelled images"),
        ({"first": 3, "train": TRAIN, "remove": [1]}, "first 3 and remove 1 contradict each other: give one"),
        ({"first": 3, "train": TRAIN, "units": 2}, r"first 3 and a budget \(units\) contradict each other: give one"),
        ({"units": 2, "train": TRAIN}, "train is not allowed without first"),
    ],
)
def test_a_mistake_is_one_line(options: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        cut(small_network("resnet A"), VALIDATION, **options)


def depth(units: int, error: float, milliseconds: float, macs: int = 100, *, whole: bool = False) -> Depth:
    """Return one depth of a probe; the error is that of a hundred images."""
    wrong = torch.arange(100) < error
    fitted = Fitted(
        features=4, error_percent=error, low=0, high=0, loss=1, strength=1, answers=Answered.of("images", wrong)
    )
    return Depth(
        units=units,
        name="end" if whole else f"unit {units}",
        whole=whole,
        fitted=fitted,
        head="pooled",
        neighbour_error_percent=0,
        to_best=None,
        to_end=None,
        latency=Timing(milliseconds, (milliseconds, milliseconds), 1),
        macs=macs,
        parameters=10,
    )


def probed(chosen: int = 1) -> Probe:
    depths = [depth(0, 40, 1, 10), depth(1, 12, 2, 30), depth(2, 6, 4, 60), depth(2, 8, 5, 100, whole=True)]
    return Probe(
        n=100,
        train_images=50,
        classes=3,
        units=2,
        depths=tuple(depths),
        best=2,
        chosen=chosen,
        budget_ms=None,
        threads=1,
    )


@pytest.mark.parametrize(
    ("budget", "depths"),
    [
        (CutBudget(), [1]),  # what the probe recommends
        (CutBudget(latency_ms=4.5), [2, 1, 0]),  # by rising error
        (CutBudget(latency_ms=9), [2, 1, 0]),
        (CutBudget(latency_ms=3), [1, 0]),
        (CutBudget(macs=30), [1, 0]),
        (CutBudget(macs_share=0.1), [0]),
        (CutBudget(error_increase=5), [1, 2]),  # by rising depth: 12 of 8 % and 5 points is allowed
        (CutBudget(error_increase=3), [2]),
        (CutBudget(latency_ms=3, error_increase=5), [1]),
    ],
)
def test_depths_within_a_budget_come_best_first(budget: CutBudget, depths: list[int]) -> None:
    assert depths_within(probed(), budget) == depths


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        (CutBudget(latency_ms=0.5), "no depth of this network holds latency of 0.5 ms: 1 ms is the smallest possible"),
        (CutBudget(macs=5), "no depth of this network holds macs of 5 MACs: 10 MACs is the smallest possible value"),
        (CutBudget(latency_ms=3, error_increase=3), "holds error-increase 3: the smallest is 4.00 points"),
    ],
)
def test_a_budget_that_no_depth_holds_is_one_line(budget: CutBudget, said: str) -> None:
    with pytest.raises(UserError, match=said):
        depths_within(probed(), budget)


def clocked(chains: list[Chain], *_: object, **__: object) -> list[Timing]:
    """A stopwatch on which a unit takes a millisecond, and the stem none."""
    return [Timing(len(one), (len(one), len(one)), 1) for one in chains]


def test_auto_takes_the_depth_of_a_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (first, depth_costs):
        monkeypatch.setattr(module, "latencies", clocked)
    chain = small_network("resnet A", seed=2)
    found = probe(chain, TRAIN, VALIDATION)
    with monkeypatch.context() as patched:
        patched.delattr(first._First, "_features")  # the probe has read the images
        free = cut(chain, VALIDATION, first="auto", train=TRAIN)
    assert free.choice is not None
    given = cut(chain, VALIDATION, first=free.choice.size.units, train=TRAIN)
    for one, other in zip(free.points, given.points, strict=True):
        assert (one.head, one.cut.error_percent) == (other.head, other.cut.error_percent)
    assert free.choice.size.units == found.choice.units
    assert free.notes[0] == f"depth by a probe of all: {found.finding}"
    within = cut(chain, VALIDATION, first="auto", train=TRAIN, latency="3ms")
    best = min(found.depths[:4], key=lambda one: one.fitted.error_percent)
    assert within.choice is not None
    assert (within.choice.size.units, within.budget.latency_ms) == (best.units, 3.0)
    assert within.notes[0] == f"depth by a probe of all: within the budget; without one {found.finding}"


def test_a_depth_that_does_not_hold_the_budget_again_is_followed_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = [clocked, lambda chains, *_, **__: [Timing(9, (9, 9), 1) for _ in chains]]
    monkeypatch.setattr(depth_costs, "latencies", clocked)
    monkeypatch.setattr(first, "latencies", lambda *given, **options: slow.pop()(*given, **options))
    chain = small_network("resnet A", seed=2)
    left = depths_within(probe(chain, TRAIN, VALIDATION), CutBudget(latency_ms=3))
    found = cut(chain, VALIDATION, first="auto", train=TRAIN, latency="3ms")
    assert found.choice is not None
    assert found.choice.size.units == left[1]
    monkeypatch.setattr(first, "latencies", lambda chains, *_, **__: [Timing(9, (9, 9), 1) for _ in chains])
    with pytest.raises(UserError, match="no depth of this network held the budget both times"):
        cut(chain, VALIDATION, first="auto", train=TRAIN, latency="3ms")


@pytest.mark.parametrize(("points", "kept"), [(0.4, "gaps"), (0.5, "first"), (0.6, "first")])
def test_within_a_budget_units_in_between_go_where_that_has_fewer_errors(points: float, kept: str) -> None:
    whole, begun, gaps = small_network("resnet A"), cases.cut(9, 5, change=0.5), cases.cut(9, 3, change=points)
    asked: list[Chain] = []

    def between(chain: Chain) -> Cut:
        asked.append(chain)
        return gaps

    found = or_gaps(First(begun, whole), CutBudget(latency_ms=2), between)
    assert asked == [whole], "which has the new classifier"
    assert found.points == (gaps if kept == "gaps" else begun).points
    other = "the first units alone" if kept == "gaps" else "with units taken out in between"
    units, error = ("4 units", 5.5) if kept == "gaps" else ("6 units", 5 + points)
    assert found.notes == (f"{other}, within the same budget: {units}, {error:.1f} % error, 1 ms",)


def test_where_gaps_hold_no_budget_or_none_limits_the_cost_the_first_units_stay() -> None:
    begun = First(cases.cut(9, 5), small_network("resnet A"))

    def refused(_: Chain) -> Cut:
        raise UserError("no cut of this network holds it")

    assert or_gaps(begun, CutBudget(error_increase=1), refused) == begun.cut
    found = or_gaps(begun, CutBudget(macs=1000), refused)
    assert found.notes == ("taken out in between: no cut of this network holds it",)
