"""Maps that are kept on the way: the same scores, fewer places computed, never more bytes than allowed."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.oracles import SMALL, chain_of, linear_chain, untimed
from torch import Tensor

from howdeep import build, spec_of
from howdeep.chain import Chain
from howdeep.explorer.engine import ActivationCache, kept_places
from howdeep.explorer.records import State, own_state

EXACT = torch.autocast("cpu", enabled=False)
SIX = [0.5, -0.25, 1.0, 2.0, -1.0, 0.125]


def ones(*shape: int) -> Tensor:
    return torch.ones(shape, dtype=torch.float64)


def cache_of(chain: Chain, chunks: list[Tensor], limit: int = 1 << 20) -> ActivationCache:
    return ActivationCache(chain.eval(), chunks, autocast=EXACT, limit=limit)


def state(gates: list[float | None]) -> State:
    return State(gates=tuple(gates), order=tuple(range(len(gates))))


@given(
    changes=st.lists(st.tuples(st.integers(0, 5), st.sampled_from([None, 0.0, 0.5, 1.0])), max_size=12),
    limit=st.sampled_from([0, 40, 200, 1 << 20]),
)
@untimed
def test_whatever_was_asked_before_scores_are_those_of_an_ordinary_call(changes: list, limit: int) -> None:
    chain = linear_chain(SIX)
    gates: list[float | None] = [1.0] * 6
    found = cache_of(chain, [ones(2, 1, 1, 1), 3 * ones(1, 1, 1, 1)], limit)
    for unit, gate in changes:
        gates[unit] = gate
        for chunk, images in enumerate(found.chunks):
            expected = chain(images, gates)
            assert torch.equal(found.logits(state(gates).route(chain), chunk), expected.float())
        assert found._bytes <= limit


@pytest.mark.parametrize("family", sorted(SMALL))
def test_every_family_of_networks_is_answered_to_the_bit(family: str) -> None:
    name, options = SMALL[family]
    torch.manual_seed(0)
    chain, images = build(spec_of(name, **options)).eval(), torch.randn(2, 3, 32, 32)
    found = cache_of(chain, [images], 1 << 26)
    gates: list[float | None] = [1.0] * len(chain)
    for unit, gate in ((len(chain) - 1, 0.5), (0, 0.0), (len(chain) - 1, 1.0)):
        gates[unit] = gate
        with torch.inference_mode():
            assert torch.equal(found.logits(state(gates).route(chain), 0), chain(images, gates))


@pytest.mark.parametrize("changed", range(6))
def test_only_what_follows_a_change_is_computed(changed: int) -> None:
    chain = linear_chain(SIX)
    found = cache_of(chain, [ones(2, 1, 1, 1)])
    own = own_state(chain)
    found.logits(own.route(chain), 0)
    assert found.steps == 6
    gates = [None if unit == changed else 1.0 for unit in range(6)]
    found.logits(state(gates).route(chain), 0)
    assert found.steps == 6 + (6 - changed)
    found.logits(own.route(chain), 0)
    assert found.steps == 6 + (6 - changed), "going back costs nothing"


def test_with_little_room_maps_are_kept_at_every_few_places() -> None:
    chain = linear_chain([0.5] * 12)
    found = cache_of(chain, [ones(1, 1, 1, 1)], limit=8 * 13)  # one route's maps: half of what two would need
    found.logits(own_state(chain).route(chain), 0)
    assert found._bytes == 6 * 8
    for unit in range(12):
        before = found.steps
        gates = [None if at == unit else 1.0 for at in range(12)]
        found.logits(state(gates).route(chain), 0)
        assert found.steps - before - (12 - unit) in (0, 1, 2), "from the nearest kept place on"


@given(
    stages=st.lists(st.tuples(st.integers(1, 1000), st.integers(1, 20)), min_size=1, max_size=4),
    share=st.floats(0, 1.1),
)
@untimed
def test_places_are_kept_as_far_as_they_fit_and_where_they_are_small_no_further_apart(
    stages: list[tuple[int, int]], share: float
) -> None:
    sizes = [size for size, count in stages for _ in range(count)]
    room = int(share * sum(sizes))
    kept = sorted(kept_places(sizes, room))
    assert sum(sizes[at] for at in kept) <= room
    assert len(kept) == len(sizes) or room < sum(sizes)
    gaps = [(sizes[at], at - before) for before, at in pairwise(kept) if len({*sizes[before : at + 1]}) == 1]
    assert all(gap <= other + 1 for size, gap in gaps for larger, other in gaps if size <= larger)


def test_the_prefixes_of_one_chunk_are_not_those_of_another() -> None:
    chain = linear_chain(SIX)
    found = cache_of(chain, [ones(1, 1, 1, 1), 2 * ones(1, 1, 1, 1)])
    route = own_state(chain).route(chain)
    one, two = (found.logits(route, chunk) for chunk in (0, 1))
    assert torch.equal(two, 2 * one)


def test_numbers_of_prefixes_are_forgotten_before_they_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("howdeep.explorer.engine.MOST_PREFIXES", 20)
    chain = linear_chain(SIX)
    found = cache_of(chain, [ones(1, 1, 1, 1)])
    for tenths in range(20):
        gates: list[float | None] = [tenths / 10] * 6
        assert torch.equal(found.logits(state(gates).route(chain), 0), chain(ones(1, 1, 1, 1), gates).float())
        assert len(found._numbers) <= 20 + 6


def test_a_closed_unit_is_not_computed() -> None:
    from tests.oracles import Untouchable

    chain = chain_of([Untouchable()])
    assert float(cache_of(chain, [ones(1, 1, 1, 1)]).logits(state([None]).route(chain), 0)) == 1


def test_from_change_to_change_the_maps_of_the_whole_network_stay() -> None:
    chain = linear_chain(SIX)
    found = cache_of(chain, [ones(1, 1, 1, 1)], limit=8 * 14)  # two routes of seven maps
    found.logits(own_state(chain).route(chain), 0)
    for changed in (0, 1, 2, 3, 4, 5, 0):
        before = found.steps
        found.logits(state([None if unit == changed else 1.0 for unit in range(6)]).route(chain), 0)
        assert found.steps - before == 6 - changed
