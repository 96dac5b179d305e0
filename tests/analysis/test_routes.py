"""Many routes at once: the bits of each alone, shared work done once, few maps kept."""

import math
from random import Random
from typing import ClassVar
from weakref import WeakValueDictionary

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.analysis.cases import NETWORKS, Fixed, batch_for, counted, network
from tests.oracles import Scale, chain_of, linear_chain, masks, small_network, untimed, weight_lists
from torch import Tensor, nn

from howdeep.analysis.lesion import removable
from howdeep.analysis.routes import Route, baseline, follow, places, without
from howdeep.chain import Chain, Unit, run
from howdeep.runtime.parts import parts_of, passed

X = torch.tensor([1.0, -2.0], dtype=torch.float64)


@torch.no_grad()
def followed(chain: Chain, x: Tensor, routes: list[Route]) -> list[Tensor]:
    """Return the scores of every route in the order of the routes."""
    found = follow(chain, x, routes)
    assert len(found) == len(routes)
    return found


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_scores_of_many_lesions_at_once_are_the_bits_of_each_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here images pass one by one."""
    chain, x = network(name), batch_for(name, 2).images
    monkeypatch.setattr(parts_of, "__defaults__", (x[0, 0].numel(),))
    units, stream = removable(chain), Random(0)
    sets = [(), *((unit,) for unit in units)]
    sets += [tuple(stream.sample(units, stream.randint(1, len(units)))) for _ in range(6)]
    stream.shuffle(sets)
    at = places(chain)
    routes = [without(baseline(chain), [at[unit] for unit in out]) for out in sets]
    alone = [passed(chain, x, [None if unit in out else 1.0 for unit in range(len(chain))]) for out in sets]
    for scores, expected in zip(followed(chain, x, routes), alone, strict=True):
        assert torch.equal(scores, expected)
    if len(units) > 1:
        assert not torch.equal(alone[sets.index(())], alone[sets.index((units[0],))])


steps = st.lists(st.tuples(st.integers(0, 3), st.sampled_from([1.0, 0.5, None])), max_size=7).map(tuple)


@untimed
@given(routes=st.lists(steps, min_size=1, max_size=12))
def test_any_routes_of_any_lengths_give_what_each_gives_alone(routes: list[Route]) -> None:
    """Units left out, twice, in another order, equal routes, one that is the beginning of another."""
    chain = linear_chain([0.5, -0.25, 2.0, -3.0])
    with torch.no_grad():
        alone = [run([(chain.body[place], gate) for place, gate in route], X) for route in routes]
    assert all(torch.equal(a, b) for a, b in zip(followed(chain, X, routes), alone, strict=True))


@untimed
@given(routes=st.lists(steps, min_size=1, max_size=12))
def test_every_common_beginning_is_computed_once(routes: list[Route]) -> None:
    chain = linear_chain([0.5, -0.25, 2.0, -3.0])
    counters = counted(chain)
    followed(chain, X, routes)
    beginnings = {route[: end + 1] for route in routes for end in range(len(route)) if route[end][1] is not None}
    assert sum(counter.calls for counter in counters) == len(beginnings)


@pytest.mark.parametrize("units", [1, 2, 7, 20])
def test_all_single_deletions_cost_half_of_n_squared_branches(units: int) -> None:
    """Unit l is computed once for the baseline network, and once for every lesion of one of the l − 1 before it."""
    chain = linear_chain([0.5] * units)
    counters, route = counted(chain), baseline(chain)
    followed(chain, X, [route, *(without(route, [unit]) for unit in range(units))])
    assert [counter.calls for counter in counters] == list(range(1, units + 1))
    assert sum(counter.calls for counter in counters) == units * (units + 1) // 2


class Watching(nn.Module):
    """A branch that counts the maps that are still held."""

    live: ClassVar[WeakValueDictionary[int, Tensor]] = WeakValueDictionary()
    peak = 0

    def forward(self, x: Tensor) -> Tensor:
        Watching.live[id(x)] = x
        Watching.peak = max(Watching.peak, len(Watching.live))
        return 0.5 * x


STUDIES = {
    "single": [[unit] for unit in range(40)],
    "all masks": [[unit for unit in range(6) if not mask[unit]] for mask in masks(6)],
    "random": [Random(draw).sample(range(40), 1 + draw % 20) for draw in range(100)],
}


@pytest.mark.parametrize("order", ["as planned", "shuffled"])
@pytest.mark.parametrize("study", STUDIES)
def test_maps_are_kept_at_no_more_than_log2_of_the_routes_plus_one_places(study: str, order: str) -> None:
    closed = STUDIES[study]
    units = 1 + max(unit for out in closed for unit in out)
    chain = Chain(nn.Identity(), chain_of(Watching() for _ in range(units)).body, Scale(1.0))
    route = baseline(chain)
    routes = [route, *(without(route, out) for out in closed)]
    if order == "shuffled":
        Random(1).shuffle(routes)
    Watching.live, Watching.peak = WeakValueDictionary(), 0
    with torch.inference_mode():
        follow(chain, X * 1, routes)
    assert 2 <= Watching.peak <= math.log2(len(routes)) + 1


@untimed
@given(weights=weight_lists)
def test_a_lesion_of_a_linear_chain_divides_the_output_by_one_plus_the_weight(weights: list[float]) -> None:
    chain = linear_chain(weights)
    route = baseline(chain)
    whole, *lesions = followed(chain, X, [route, *(without(route, [unit]) for unit in range(len(weights)))])
    for weight, scores in zip(weights, lesions, strict=True):
        torch.testing.assert_close(scores * (1 + weight), whole, rtol=1e-12, atol=1e-12)


def test_the_baseline_route_has_the_gates_of_the_call_and_links_have_none() -> None:
    chain = Chain(nn.Identity(), [Scale(2.0), *linear_chain([0.5, 0.25]).units, Scale(3.0)], nn.Identity())
    assert places(chain) == [1, 2]
    assert baseline(chain) == ((0, 1.0), (1, 1.0), (2, 1.0), (3, 1.0))
    chain.rule = Fixed(0.75, 0.5)
    assert baseline(chain) == ((0, 1.0), (1, 0.75), (2, 0.5), (3, 1.0))
    assert without(baseline(chain), [2]) == ((0, 1.0), (1, 0.75), (2, None), (3, 1.0))
    (scores,) = followed(chain, X, [baseline(chain)])
    torch.testing.assert_close(scores, X * 6 * (1 + 0.75 * 0.5) * (1 + 0.5 * 0.25))


def test_places_count_links_of_real_networks() -> None:
    chain = small_network("densenet")
    assert [isinstance(chain.body[place], Unit) for place in places(chain)] == [True] * len(chain)
    assert len(places(chain)) == len(chain) < len(chain.body)


def test_no_routes_give_nothing() -> None:
    assert followed(linear_chain([1.0]), X, []) == []


def test_equal_routes_are_computed_once_and_reported_each() -> None:
    chain = linear_chain([0.5, 0.25])
    counters = counted(chain)
    found = followed(chain, X, [baseline(chain)] * 3)
    assert [counter.calls for counter in counters] == [1, 1]
    assert all(torch.equal(scores, found[0]) for scores in found)
