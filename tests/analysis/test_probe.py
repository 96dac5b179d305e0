"""Probes: on paper where the classes can be told apart behind one unit only, as networks compute for real ones."""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from tests.analysis.cases import NETWORKS, batch_for, network
from tests.oracles import images, small_network
from tests.show import cases
from torch import Tensor, nn

from howdeep.analysis.choice import chosen_of, compared, lowest_of
from howdeep.analysis.depths import Change, Depth, Fitted, Probe
from howdeep.analysis.evaluation import Answers
from howdeep.analysis.features import Rows, places_of, read_at
from howdeep.analysis.linear import Features, regression
from howdeep.analysis.neighbours import wrong_by_neighbour
from howdeep.analysis.probe import probe
from howdeep.analysis.routes import baseline, follow, places, without
from howdeep.analysis.views import views_of
from howdeep.chain import Add, Chain, Unit
from howdeep.convert.classifier import read_last, replace_classifier
from howdeep.data import Batch
from howdeep.data.loaders import Batches
from howdeep.networks.counting import describe_chain
from howdeep.runs.resume import Journal
from howdeep.runtime.parts import parts_of
from howdeep.runtime.timing import Timing
from howdeep.transform.truncation import cut_points, truncated
from howdeep.util.errors import Stopped, UserError
from howdeep.util.records import from_json, to_json

FP32 = torch.autocast("cpu", enabled=False)
HEADS = ("pooled", "kept")


@pytest.fixture(scope="module", autouse=True)
def _untimed() -> Iterator[None]:
    """A depth takes as many milliseconds as there are shallower ones: what is slow here are the timed passes."""
    with pytest.MonkeyPatch.context() as patch:
        times = lambda chains, *_, **__: [Timing(at, (at, at), 5) for at in range(1, 1 + len(chains))]  # noqa: E731
        patch.setattr("howdeep.analysis.depth_costs.latencies", times)
        yield


# --- on paper: images of two numbers a and b, whose class is whether they have the same sign


class Product(nn.Module):
    """branch(a, b, c) = (0, 0, factor · a · b)."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        nothing = torch.zeros_like(x[:, :1])
        return torch.cat([nothing, nothing, self.factor * x[:, :1] * x[:, 1:2]], 1)


def signs(factors: Sequence[float]) -> Chain:
    """Return a chain behind whose units the third number is the sum of the factors so far, times a · b."""
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 7))
    units = [Unit(Product(factor), nn.Identity(), Add(), "erase" if factor < 0 else "") for factor in factors]
    return Chain(nn.Identity(), units, head).eval()


def pairs(count: int, seed: int) -> Batch:
    numbers = torch.randint(0, 2, (count, 2), generator=torch.Generator().manual_seed(seed)) * 2.0 - 1
    numbers[:4] = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    x = torch.cat([numbers, torch.zeros(count, 1)], 1)[:, :, None, None].expand(-1, -1, 2, 2)
    return Batch(x.contiguous(), (numbers.prod(1) > 0).long() + 3, count)


@pytest.fixture(scope="module")
def xor() -> Probe:
    """Nothing can be told before the third of five units, and nothing any more behind the fifth."""
    chain = signs([0, 0, 1, 0, -1])
    return probe(chain, [pairs(60, 0), pairs(40, 1)], [pairs(200, 2)], [pairs(80, 3)])


def test_classes_are_told_apart_behind_the_unit_that_computes_their_difference(xor: Probe) -> None:
    errors = [depth.fitted.error_percent for depth in xor.depths]
    assert [depth.units for depth in xor.depths] == [0, 1, 2, 3, 4, 5]
    assert errors[3:5] == [0, 0]
    assert min(*errors[:3], errors[5]) > 15  # a line tells three of four corners apart at best
    assert (xor.best, xor.chosen) == (3, 3)
    assert (xor.n, xor.train_images, xor.classes, xor.units) == (200, 100, 5, 5)
    assert [depth.name for depth in xor.depths] == ["stem", "unit 1", "unit 2", "unit 3", "unit 4", "end"]


def test_the_end_hurts_where_it_erases_what_was_known(xor: Probe) -> None:
    assert xor.end.to_best is not None
    assert xor.end.to_best.worse
    assert xor.end.to_best.points == xor.end.fitted.error_percent
    assert "the whole network is worse" in xor.finding
    assert xor.test is not None
    assert (xor.test.n, xor.test.error_percent) == (80, 0)
    assert xor.test.end_error_percent > 15
    assert xor.test.change.points == -xor.test.end_error_percent


def test_the_nearest_neighbour_needs_no_line_between_the_classes(xor: Probe) -> None:
    assert [depth.neighbour_error_percent for depth in xor.depths] == [0] * 6
    assert xor.test is not None
    assert xor.test.end_neighbour_error_percent == 0


def test_a_record_is_read_back_from_its_file(xor: Probe) -> None:
    assert from_json(Probe, to_json(xor)) == xor


def test_images_need_not_have_the_classes_of_the_network(xor: Probe) -> None:
    """The labels are 3 and 4, of a network with 7 classes; here they are 13 and 14."""
    chain, train, validation = signs([1]), pairs(60, 0), pairs(50, 1)
    moved = [(one.images, one.labels + 10) for one in (train, validation)]
    assert probe(chain, [moved[0]], [moved[1]]).choice.fitted.error_percent == 0


@pytest.mark.parametrize(
    ("train", "validation", "more", "line"),
    [
        ([], [pairs(9, 0)], {}, "there are no training images"),
        ([pairs(9, 0)], [], {}, "there are no validation images"),
        ([(torch.ones(4, 3, 2, 2), torch.ones(4).long())], [pairs(9, 0)], {}, "all training images are of one class"),
        ([pairs(9, 0)], [pairs(9, 0)], {"budget_ms": 1e-6}, "no depth of this network holds latency-budget 1e-06ms"),
        ([pairs(9, 0)], [pairs(9, 0)], {"budget_ms": 1e-6, "classes": 5}, "no depth of this network holds"),
        ([(torch.ones(4, 3, 2, 2), torch.ones(4).long() - 3)], [pairs(9, 0)], {}, "they count from 0"),
        ([pairs(9, 0)], [pairs(9, 0)], {"views": 11}, "views 11 is not allowed: 1 to 10"),
        ([pairs(9, 0)], [pairs(9, 0)], {"views": 6, "flip": False}, "without mirror images: 1 to 5"),
    ],
)
def test_what_cannot_be_probed_is_refused_in_one_line(train, validation, more, line: str) -> None:
    with pytest.raises(UserError, match=line):
        probe(signs([1, 0]), train, validation, **more)


# --- what is read


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_read_behind_a_unit_is_what_the_truncated_network_reads(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However few images pass at a time."""
    monkeypatch.setattr(
        "howdeep.analysis.features.parts_of", lambda chain, images, *together: images.split(3 if together else 1)
    )
    chain, batch = network(name), batch_for(name)
    with torch.no_grad():
        found = places_of(chain, batch.images[:1])
        read = read_at(chain, found, batch.images, FP32).split([place.features for place in found], 1)
        for place, values in zip(found, read, strict=True):
            if place.by_head:
                continue
            same = nn.Linear(place.features, place.features)
            same.weight.copy_(torch.eye(place.features))
            nn.init.zeros_(same.bias)
            expected = truncated(chain, place.units, same)(batch.images)
            torch.testing.assert_close(values, expected, rtol=1e-4, atol=1e-5)
    assert {place.units for place in found} == set(range(len(chain) + 1))


@pytest.mark.parametrize("name", NETWORKS)
def test_the_end_is_what_the_classifier_of_the_network_reads(name: str) -> None:
    chain, batch = network(name), batch_for(name)
    end = places_of(chain, batch.images[:1])[-1]
    assert (end.units, end.by_head) == (len(chain), True)
    read = read_at(chain, [end], batch.images, FP32)
    with torch.no_grad():
        logits = chain(batch.images)
        classifier = [one for one in chain.head.parameters() if one.shape == (logits.shape[1], end.features)]
        assert len(classifier) == 1
        difference = logits - read @ classifier[0].T
    torch.testing.assert_close(difference, difference[:1].expand_as(difference), rtol=0, atol=2e-4)  # the bias


@pytest.mark.parametrize("name", ["preresnet", "timm vit"])
def test_by_the_head_is_what_its_classifier_reads_when_the_units_behind_are_gone(name: str) -> None:
    chain, batch = network(name), batch_for(name)
    by_head = [place for place in places_of(chain, batch.images[:1]) if place.by_head][:-1]
    assert by_head
    for place in by_head:
        route = without(baseline(chain), places(chain)[place.units :])
        (logits,) = follow(chain, batch.images, [route])
        x = chain.stem(batch.images)
        for module, gate in chain.steps()[: cut_points(chain)[place.units]]:
            x = module(x, gate) if isinstance(module, Unit) else module(x)
        torch.testing.assert_close(chain.head(x), logits)
        expected = read_last(chain.head, x)
        assert expected is not None
        torch.testing.assert_close(read_at(chain, [place], batch.images, FP32), expected.detach())


def test_large_images_pass_few_at_a_time() -> None:
    network, own = nn.BatchNorm2d(1).eval(), nn.BatchNorm2d(1, track_running_stats=False).eval()
    assert [len(part) for part in parts_of(network, torch.zeros(10, 1, 256, 256))] == [4, 4, 2]
    assert [len(part) for part in parts_of(network, torch.zeros(2, 1, 1024, 1024))] == [1, 1]
    assert [len(part) for part in parts_of(network, torch.zeros(10, 1, 256, 256), 2**20)] == [10]
    assert [len(part) for part in parts_of(network.train(), torch.zeros(10, 1, 256, 256))] == [10]
    assert [len(part) for part in parts_of(own, torch.zeros(10, 1, 256, 256))] == [10]


def test_a_head_that_only_averages_gives_no_second_place() -> None:
    chain = small_network("resnet A")
    found = places_of(chain, images(1, size=8))
    assert [(place.units, place.by_head) for place in found] == [*((k, False) for k in range(6)), (6, True)]


def test_a_head_that_accepts_activations_may_follow_at_once() -> None:
    """Nothing can be told of averages, and all behind the head, which computes the difference."""
    chain = signs([0, 0])
    chain.head = nn.Sequential(Product(1), *chain.head)  # type: ignore[misc]
    found = probe(chain, [pairs(90, 0)], [pairs(120, 1)], [pairs(40, 2)])
    assert [(depth.units, depth.head) for depth in found.depths] == [(k, head) for k in range(3) for head in HEADS]
    assert all((depth.fitted.error_percent == 0) == (depth.head == "kept") for depth in found.depths)
    assert (found.chosen, found.finding.split(":")[0]) == (1, "the stem alone and the head")
    assert found.test is not None
    assert found.test.error_percent == 0
    assert [depth.parameters for depth in found.depths] == [4 * 5] * 6


class Logits(nn.Module):
    """The mean of two classifiers: the logits are those of no single layer."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(3, 4), nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = x.mean((2, 3))
        return (self.one(x) + self.two(x)) / 2


def test_where_the_logits_are_those_of_no_single_layer_they_are_the_end() -> None:
    chain = signs([1, 1])
    chain.head, x = Logits(), pairs(5, 0).images
    found = places_of(chain, x[:1])
    assert [(place.units, place.by_head, place.features) for place in found][-2:] == [(2, False, 3), (2, True, 4)]
    torch.testing.assert_close(read_at(chain, found, x, FP32)[:, -4:], chain(x).detach())
    assert probe(chain, [pairs(50, 0)], [pairs(50, 1)]).depths[-1].whole


@pytest.mark.parametrize("files", [False, True])
def test_rows_are_kept_in_memory_or_in_files(files: bool, tmp_path: Path) -> None:
    rows, blocks = Rows(5, tmp_path / "kept" if files else None), torch.rand(7, 5).split(3)
    for number in (2, 0, 1):
        assert number not in rows
        rows.put(number, blocks[number])
        assert number in rows
    assert torch.equal(rows.columns(range(1, 3), 1, 3), torch.cat(blocks)[3:, 1:4])


# --- views


def test_views_are_mirrored_and_shifted_to_the_corners() -> None:
    """By a sixteenth of 32 rows and 16 columns; what comes in from behind the border is its mirror image."""
    x = torch.arange(2 * 32 * 16.0).view(1, 2, 32, 16)
    views = list(views_of(x, 10, flip=True))
    assert torch.equal(views[0], x)
    assert all(torch.equal(mirrored, view.flip(3)) for view, mirrored in zip(views[::2], views[1::2], strict=True))
    for view, (down, right) in zip(views[2::2], ((2, 1), (-2, -1), (2, -1), (-2, 1)), strict=True):
        assert torch.equal(view[..., 2:-2, 1:-1], x.roll((down, right), (2, 3))[..., 2:-2, 1:-1])
        assert view.shape == x.shape
        assert x.min() <= view.min()
    assert [len(list(views_of(x, count, flip=False))) for count in (1, 5)] == [1, 5]
    assert torch.equal(next(reversed(list(views_of(torch.ones(1, 1, 1, 1), 3, flip=True)))), torch.ones(1, 1, 1, 1))


class LeftMinusRight(nn.Module):
    """The left half of an image, minus the right one."""

    def forward(self, x: Tensor) -> Tensor:
        return x[..., : x.shape[3] // 2] - x[..., x.shape[3] // 2 :]


def sides(count: int) -> Batch:
    """Return images that are bright on the left or on the right, which is their class."""
    labels = torch.arange(count) % 2
    x = torch.zeros(count, 3, 4, 4)
    x[labels == 0, ..., :2] = 1.0
    x[labels == 1, ..., 2:] = 1.0
    return Batch(x, labels, count)


def test_what_is_read_is_averaged_over_views() -> None:
    """A side cannot be told from an image and its mirror image together; of shifted ones it can, in the test too."""
    chain = signs([0])
    chain.stem = LeftMinusRight()
    given = [[sides(20)], [sides(16)], [sides(8)]]
    plain, shifted, mirrored = (
        probe(chain, *given, views=views, flip=flip) for views, flip in ((1, True), (2, False), (2, True))
    )
    assert [one.choice.fitted.error_percent for one in (plain, shifted, mirrored)] == [0, 0, 50]
    assert [one.test and one.test.error_percent for one in (plain, shifted, mirrored)] == [0, 0, 50]
    assert (plain.views, plain.remarks) == (1, ())
    assert mirrored.remarks == ("read as the average of 2 views, mirrored: an answer takes 2 times the ms",)


# --- error and cost


@pytest.fixture(scope="module")
def digits() -> list[Batch]:
    """Training and validation images, three channels each."""
    values, labels = load_digits(return_X_y=True)
    x = torch.tensor(values, dtype=torch.float32).view(-1, 1, 8, 8).expand(-1, 3, -1, -1) / 8 - 1
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0)).split(400)
    return [Batch(x[part].contiguous(), torch.tensor(labels)[part], len(part)) for part in order[:2]]


def test_errors_are_those_of_scikit_learn(digits: list[Batch]) -> None:
    """Within half a point, at every depth, with the strength that was chosen."""
    chain, (train, validation) = small_network("resnet A"), digits
    found = probe(chain, [train], [validation])
    for depth in found.depths:
        place = next(p for p in places_of(chain, train.images[:1]) if p.units == depth.units)
        (x, y), (z, labels) = (
            (read_at(chain, [place], one.images, FP32).double(), one.labels) for one in (train, validation)
        )
        spread = x.var(0, correction=0).mean().sqrt()
        theirs = LogisticRegression(C=1 / depth.fitted.strength, max_iter=10_000).fit((x - x.mean(0)) / spread, y)
        assert depth.fitted.error_percent == pytest.approx(
            100 * (1 - theirs.score((z - x.mean(0)) / spread, labels)), abs=0.5
        )
        nearest = KNeighborsClassifier(1, metric="cosine").fit((scaled := StandardScaler().fit(x)).transform(x), y)
        assert depth.neighbour_error_percent == pytest.approx(
            100 * (1 - nearest.score(scaled.transform(z), labels)), abs=0.5
        )


def test_a_rough_solution_gives_the_answers_of_the_minimum(digits: list[Batch]) -> None:
    train, validation = (Features(one.images[:, 0].flatten(1), one.labels) for one in digits)
    rough, minimum = (regression(train, validation, 10, exact=exact)[0] for exact in (False, True))
    assert rough.strength == minimum.strength
    assert int((rough.wrong(validation) != minimum.wrong(validation)).sum()) <= 2


def test_of_more_numbers_than_images_none_is_lost() -> None:
    """Three images in 50 dimensions, of which they take three."""
    x = torch.eye(50)[:3] * 4
    features = Features(x, torch.tensor([0, 1, 0]))
    linear, sums = regression(features, features, 2)
    assert sums.wrong == 0
    assert linear.weight.shape == (2, 50)
    assert float(linear.weight[:, 3:].abs().max()) < 1e-9


@pytest.mark.parametrize("name", ["resnet A", "densenet", "timm vit", "torchvision resnet18"])
def test_a_depth_costs_what_the_truncated_network_costs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its classifier answers: Newton's method takes a minute to the minimum of so few images."""
    monkeypatch.setattr("howdeep.analysis.linear.ITERATIONS", 2)
    chain, batch = network(name), batch_for(name, 12)
    found = probe(chain, [batch], [batch])
    shape = tuple(batch.images.shape[1:])
    for depth in found.depths:
        alone = truncated(chain, depth.units, nn.Linear(depth.fitted.features, found.classes))
        if depth.head == "kept":
            alone.head = copy.deepcopy(chain.head)
            replace_classifier(alone, batch.images, found.classes, seed=0)
        counted = describe_chain(alone, shape, name="", family="")
        assert (depth.macs, depth.parameters) == (counted.macs, counted.parameters)
    whole = describe_chain(chain, shape, name="", family="")
    lacking = (found.end.fitted.features + 1) * (chain(batch.images).shape[1] - found.classes)
    assert found.end.parameters == whole.parameters - lacking


def test_a_network_stays_as_it_is() -> None:
    chain, batch = small_network("resnet A").train(), batch_for("resnet A", 12)
    before = {name: tensor.clone() for name, tensor in chain.state_dict().items()}
    probe(chain, [batch], [batch])
    assert chain.training
    assert all(torch.equal(before[name], tensor) for name, tensor in chain.state_dict().items())


# --- the choice


def depths(wrong: Sequence[Sequence[int]], n: int, ms: Sequence[float] | None = None) -> list[Depth]:
    """Return depths by the images that they answer wrong; the last is the whole network."""
    found = []
    for at, images_wrong in enumerate(wrong):
        bits = torch.zeros(n, dtype=torch.bool)
        bits[list(images_wrong)] = True
        error = 100 * len(images_wrong) / n
        fitted = Fitted(
            features=3,
            error_percent=error,
            low=error,
            high=error,
            loss=1.0,
            strength=1.0,
            answers=Answers.of("these", bits),
        )
        time = ms[at] if ms else 1.0 + at
        found.append(
            Depth(
                units=at,
                name=f"unit {at}",
                whole=at == len(wrong) - 1,
                fitted=fitted,
                head="pooled",
                neighbour_error_percent=50.0,
                to_best=None,
                to_end=None,
                latency=Timing(time, (time, time), 5),
                macs=at,
                parameters=at,
            )
        )
    return found


def test_the_shallowest_depth_that_may_be_as_good_as_the_best_is_chosen() -> None:
    """Of 200 images 60, 13, 10 and 12 wrong: 3 points more may be chance, 25 are none."""
    found = compared(depths([range(60), range(13), range(10), range(12)], 200), 200)
    assert (lowest_of(found), chosen_of(found)) == (2, 1)
    assert [one.to_best and one.to_best.worse for one in found] == [True, False, None, False]
    assert [one.to_end and round(one.to_end.points, 1) for one in found] == [24.0, 0.5, -1.0, None]


def test_of_equal_depths_the_shallowest_is_the_best() -> None:
    found = compared(depths([range(5), range(5), range(5)], 100), 100)
    assert (lowest_of(found), chosen_of(found)) == (0, 0)


def test_a_difference_that_only_many_comparisons_excuse_is_not_excused_in_the_choice() -> None:
    """8 of 200 images more are beyond chance alone, and not among ten comparisons: the prudent depth is taken."""
    found = compared(depths([range(8), *[range(4) for _ in range(9)], []], 200), 200)
    assert found[0].to_best is not None
    assert found[0].to_best.low > 0
    assert not found[0].to_best.worse
    assert chosen_of(found) == 1


def test_a_depth_that_may_be_much_worse_is_not_recommended() -> None:
    """Of 40 images 9, 4 and 3 wrong, other ones each: 9 and 4 may be 31 and 16 points worse than 3."""
    found = compared(depths([range(9), range(20, 24), range(10, 13)], 40), 40)
    assert [one.to_best and one.to_best.low <= 0 for one in found] == [True, True, None]
    assert [one.to_best and one.to_best.high > 10 for one in found] == [True, True, None]
    assert chosen_of(found) == 2
    said = replace(cases.probe(), n=40, depths=found, best=2, chosen=2).finding
    assert said == (
        "the whole network: 7.5 % error, the lowest; whether less of it is as good cannot be said:"
        " 40 images leave up to 31 points open"
    )
    sure = compared(depths([range(9), range(8), ()], 40), 40)
    said = replace(cases.probe(), n=40, depths=sure, best=2, chosen=2).finding
    assert said == "the whole network is needed: 0.0 % error, and every shallower depth is worse"


@pytest.mark.parametrize(("budget", "chosen"), [(1.5, 0), (2.0, 1), (3.5, 1), (4.0, 3), (9.0, 3)])
def test_within_a_budget_the_lowest_error_is_chosen(budget: float, chosen: int) -> None:
    found = compared(depths([range(9), range(5), range(6), range(2)], 100), 100)
    assert chosen_of(found, budget) == chosen


# --- resuming


class Watched(Batches):
    """Batches that are counted when they are asked for, and stop at one of them."""

    def __init__(self, batches: Sequence[Batch], stop: int | None = None) -> None:
        self.batches, self.stop, self.asked = batches, stop, []

    def __len__(self) -> int:
        return len(self.batches)

    def at(self, index: int) -> Batch:
        if index == self.stop:
            raise Stopped(130, "stopped")
        self.asked.append(index)
        return self.batches[index]


def test_work_that_was_stopped_goes_on_where_it_was(tmp_path: Path) -> None:
    chain, place, validation = signs([0, 1]), tmp_path / "probe.json", [pairs(60, 9)]
    batches = [pairs(20, number) for number in range(4)]

    def run(train: Batches, known: Callable[[], Journal]) -> Probe:
        return probe(chain, train, validation, journal=known())

    def journal() -> Journal:
        return Journal.open(place, {"a": 1})

    whole = run(Watched(batches), Journal)
    with pytest.raises(Stopped):
        run(Watched(batches, stop=2), journal)
    kept = tmp_path / "probe.json.kept"
    assert {path.name for path in kept.iterdir()} == {"0", "1"}
    (kept / "1").unlink()  # somebody tidied up
    again = Watched(batches)
    found = run(again, journal)
    assert again.asked.count(0) == 1  # to see how many images it has
    assert {1, 2, 3} <= set(again.asked)
    assert whole == found
    journal().remove()
    assert list(tmp_path.iterdir()) == []


def test_the_nearest_neighbour_passes_over_features_that_are_constant() -> None:
    train = Features(torch.tensor([[1.0, 7.0], [-1.0, 7.0]]), torch.tensor([0, 1]))
    moved = Features(torch.tensor([[3.0, 100.0], [-2.0, -100.0]]), torch.tensor([0, 1]))
    assert wrong_by_neighbour(train, moved).tolist() == [False, False]


def test_a_change_is_worse_where_it_is_beyond_chance_of_all() -> None:
    assert Change(points=3.0, low=1.0, high=5.0, chance=0.01).worse
    assert not Change(points=3.0, low=1.0, high=5.0, chance=0.2).worse
    assert not Change(points=-3.0, low=-5.0, high=-1.0, chance=0.01).worse
