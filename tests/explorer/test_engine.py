"""What the page is told is what the Python functions return on the same images."""

import math
from dataclasses import replace

import pytest
import torch
from tests.oracles import linear_chain

from howdeep import lesion, without
from howdeep.analysis.evaluation import add_up
from howdeep.chain import Chain
from howdeep.cutting.cut import cut
from howdeep.cutting.options import CutBudget
from howdeep.explorer.engine import Engine
from howdeep.explorer.jobs import Cancelled
from howdeep.explorer.records import Answer, State, check_state, own_state
from howdeep.explorer.server import like_of
from howdeep.networks.counting import describe_chain
from howdeep.runs.resume import Journal
from howdeep.util.errors import UserError
from howdeep.util.intervals import of_share, student_95

EXACT = torch.autocast("cpu", enabled=False)


def ask(engine: Engine, gates: dict[int, float | None], order: tuple[int, ...] | None = None) -> Answer:
    """Return the answer with some gates changed."""
    own = engine.own
    changed = tuple(gates.get(index, gate) for index, gate in enumerate(own.gates))
    return engine.answer(State(gates=changed, order=order or own.order), (), None, quiet)


def quiet(done: int, of: int, more: dict | None = None) -> None:
    pass


class Told(list):
    """The steps that were told, (done, of), and what more was."""

    def __init__(self) -> None:
        super().__init__()
        self.more: list[dict] = []

    def __call__(self, done: int, of: int, more: dict | None = None) -> None:
        self.append((done, of))
        self.more += [more] if more else []


def test_the_network_as_it_is_has_the_expected_gates_and_changes_nothing(engine: Engine) -> None:
    assert engine.own.gates == pytest.approx([1 - (unit / 6) * 0.5 for unit in range(1, 7)])
    found, sums = ask(engine, {}), add_up(engine.chain, engine.sample.batches, autocast=EXACT)
    assert found.error_percent == pytest.approx(sums.error_percent)
    assert (found.change, found.closed) == (0, 0)
    assert found.change_low == -found.change_high < 0
    assert (found.low, found.high) == pytest.approx(of_share(100 * sums.wrong / 179, 179))
    assert len(found.wrong) == sums.wrong
    assert found.newly_wrong == found.newly_right == ()


@pytest.mark.parametrize("unit", range(6))
def test_one_unit_out_is_the_lesion_of_that_unit(engine: Engine, unit: int) -> None:
    expected = lesion(engine.cache.chain, engine.sample.batches).units[unit]
    found = ask(engine, {unit: None})
    assert found.error_percent == pytest.approx(expected.error_percent)
    assert (found.change, found.change_low, found.change_high) == pytest.approx(
        (expected.change, expected.change_low, expected.change_high)
    )


def test_the_deletions_of_the_page_are_those_of_a_lesion_study_and_tell_their_progress(engine: Engine) -> None:
    told = Told()
    expected = lesion(engine.cache.chain, engine.sample.batches)
    before = dict(engine.cache._maps)
    found = [(one.change, one.interval) for one in engine.deletions(told) if one is not None]
    assert found == [(unit.change, unit.interval) for unit in expected.units]
    assert engine.cache._maps.keys() == before.keys(), "what is asked once takes the room of nothing"
    assert told == [(step, 18) for step in range(1, 19)], "six units, 179 images in chunks of 64"


def test_any_gates_give_the_error_of_an_ordinary_call(engine: Engine) -> None:
    gates = {0: 0.3, 2: None, 5: 2.0}
    given = [gates.get(index, gate) for index, gate in enumerate(engine.own.gates)]
    expected = add_up(engine.chain, engine.sample.batches, autocast=EXACT, gates=given)
    found = ask(engine, gates)
    assert found.error_percent == pytest.approx(expected.error_percent)
    assert found.loss is not None
    assert found.probability is not None
    own = add_up(engine.chain, engine.sample.batches, autocast=EXACT)
    assert found.loss.value == pytest.approx(expected.mean_loss, abs=1e-5)
    assert found.loss.change == pytest.approx(expected.mean_loss - own.mean_loss, abs=1e-5)
    with torch.inference_mode():
        now, before = (
            torch.cat([engine.chain(one.images, list(gates)).softmax(1) for one in engine.sample.batches])
            for gates in (given, engine.own.gates)
        )
    right = engine.sample.labels[:, None]
    changes = (now - before).gather(1, right).squeeze(1)
    half = student_95(179) * float(changes.std()) / math.sqrt(179)
    assert found.probability.value == pytest.approx(float(now.gather(1, right).mean()), abs=1e-5)
    assert found.probability.change == pytest.approx(float(changes.mean()), abs=1e-5)
    assert found.probability.change_high == pytest.approx(float(changes.mean()) + half, abs=1e-5)
    assert sum(sum(row) for row in found.confusion) == 179
    assert 179 - sum(found.confusion[label][label] for label in range(10)) == expected.wrong
    assert [sum(row) for row in found.confusion] == engine.sample.labels.bincount(minlength=10).tolist()


def test_where_images_take_long_the_numbers_of_the_first_ones_are_told_meanwhile(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("howdeep.explorer.engine.PATIENCE", -1)
    told, state = Told(), replace(engine.own, gates=(None, *engine.own.gates[1:]))
    last = engine.answer(state, (3,), None, told)
    gates, batches = [0.0, *engine.own.gates[1:]], engine.sample.batches
    for chunks, found in enumerate((one["answer"] for one in told.more), 1):
        expected = add_up(engine.chain, batches[:chunks], autocast=EXACT, gates=gates)
        assert (found["n"], found["of"]) == (64 * chunks, 179)
        assert len(found["wrong"]) == expected.wrong
        assert found["error_percent"] == pytest.approx(expected.error_percent)
        assert found["loss"]["value"] == pytest.approx(expected.mean_loss, abs=1e-5)
        assert (found["macs"], found["watched"]) == (last.macs, ())
    assert len(told.more) == 2
    assert (last.n, last.of, len(last.watched)) == (179, 179, 1)


def test_units_that_changed_places_answer_as_a_chain_built_in_that_order(engine: Engine) -> None:
    first, second = (group := [i for i, like in enumerate(like_of(engine)) if like == 0])[:2]
    order = list(range(6))
    order[first], order[second] = second, first
    assert len(group) > 1
    chain, units = engine.chain, engine.chain.units
    body = [units[unit] for unit in order]
    moved = Chain(chain.stem, body, chain.head).eval()
    expected = add_up(moved, engine.sample.batches, autocast=EXACT, gates=[engine.own.gates[unit] for unit in order])
    found = ask(engine, {}, tuple(order))
    assert found.error_percent == pytest.approx(expected.error_percent)
    assert found.kendall_tau == pytest.approx(1 - 2 / 15)


def test_paths_left_are_counted_exactly(engine: Engine) -> None:
    found = ask(engine, {1: None, 4: None}).paths
    assert (found.total, found.of, found.log2) == ("16", "64", 4.0)
    assert (found.shortest, found.longest, found.mean) == (0, 4, 2.0)


def test_what_is_left_adds_up_to_what_a_cut_network_costs(engine: Engine) -> None:
    closed, shape = [1, 3], tuple(engine.sample.pixels.shape[1:])
    smaller = describe_chain(without(engine.chain, closed), shape, name="", family="")
    whole = describe_chain(engine.chain, shape, name="", family="")
    found = ask(engine, dict.fromkeys(closed))
    assert (found.macs, found.macs_all) == (smaller.macs, whole.macs)
    assert (found.parameters, found.parameters_all) == (smaller.parameters, whole.parameters)
    assert 0 < found.ms < found.ms_all


def test_the_greedy_cut_is_that_of_the_command_also_where_it_was_cancelled_and_goes_on(engine: Engine) -> None:
    expected = cut(engine.chain, engine.sample.batches, budget=CutBudget(units=3))
    fresh, told, again = replace(engine, journal=Journal()), Told(), Told()

    def stop(done: int, of: int, more: dict | None = None) -> None:
        told(done, of)
        if done == 8:
            raise Cancelled

    with pytest.raises(Cancelled):
        fresh.greedy(3, stop)
    found = fresh.greedy(3, again)
    assert [index + 1 for index in found] == [removal.index for removal in expected.order]
    assert told == [(step, 15) for step in range(1, 9)], "rounds of 6, 5 and 4 networks"
    assert again == [(step, 9) for step in range(1, 10)], "the first round was known"


@pytest.mark.parametrize("units", [-1, 7])
def test_more_units_than_there_are_cannot_be_left(engine: Engine, units: int) -> None:
    with pytest.raises(UserError, match=f"units {units} is not allowed: 0 to 6 can be left"):
        engine.greedy(units, quiet)


def test_a_watched_image_is_told_with_its_likeliest_classes_before_and_now(engine: Engine) -> None:
    state = replace(engine.own, gates=(None, *engine.own.gates[1:]))
    (found,) = engine.answer(state, (7,), None, quiet).watched
    image = torch.cat([batch.images for batch in engine.sample.batches])[7:8]
    with torch.inference_mode():
        now, before = (engine.chain(image, list(gates)).softmax(1)[0] for gates in (state.gates, engine.own.gates))
    likeliest = now.topk(3).indices.tolist()
    assert found.label == engine.classes[engine.sample.labels[7]]
    assert [guess.name for guess in found.top] == [engine.classes[index] for index in likeliest]
    assert [guess.probability for guess in found.top] == pytest.approx(now[likeliest].tolist(), abs=1e-5)
    assert [guess.before for guess in found.top] == pytest.approx(before[likeliest].tolist(), abs=1e-5)


def test_a_network_that_no_longer_answers_in_numbers_is_wrong_and_not_a_crash(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = torch.full((64, 10), math.nan)
    rest = torch.full((179 - 128, 10), math.nan)
    assert engine.before, "the network as it is was asked before"
    monkeypatch.setattr(type(engine.cache), "logits", lambda self, route, chunk, keep: nothing if chunk < 2 else rest)
    found = engine.answer(engine.own, (3,), None, quiet)
    assert (found.not_finite, found.error_percent, len(found.wrong)) == (179, 100.0, 179)
    assert found.watched[0].top == ()
    assert found.loss is found.probability is None
    assert sum(map(sum, found.confusion)) == 0


@pytest.mark.parametrize(
    ("gates", "order", "message"),
    [
        ((1.0,) * 2, (0, 1, 2), "2 gates and 3 places for a network of 3 units"),
        ((1.0,) * 3, (0, 1, 1), "3 gates and 3 places"),
        ((1.0, 2.5, 1.0), (0, 1, 2), "gate 2.5 of unit 2 is not allowed: 0 to 2"),
        ((1.0, -0.1, 1.0), (0, 1, 2), "gate -0.1 of unit 2"),
        ((1.0, math.nan, 1.0), (0, 1, 2), "gate nan of unit 2"),
        ((1.0,) * 3, (2, 1, 0), "unit 3 cannot stand at place 1: the shapes differ"),
    ],
)
def test_a_state_that_the_network_cannot_be_in_is_refused(gates: tuple, order: tuple, message: str) -> None:
    chain = linear_chain([1.0, 1.0, 1.0])
    with pytest.raises(UserError, match=message):
        check_state(chain, State(gates=gates, order=order), (0, 0, None))
    check_state(chain, State(gates=(None, 2.0, 0.0), order=(1, 0, 2)), (0, 0, None))
    check_state(chain, own_state(chain), (None, None, None))
