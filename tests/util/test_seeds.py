import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.oracles import untimed

from howdeep.util.seeds import derive, generator

parts = st.lists(st.integers(0, 10**6) | st.sampled_from(["gates", "order", "initialise"]), max_size=4)


def test_seeds_are_the_same_on_every_machine_and_in_every_version() -> None:
    """Golden: with other numbers a resumed run would draw other gates (b2sum -l 64 of 0/gates/7, halved)."""
    assert derive(0, "gates", 7) == 3768658955552123640


@untimed
@given(seed=st.integers(0, 10**6), one=parts, other=parts)
def test_seeds_differ_as_soon_as_a_part_does(seed: int, one: list[int | str], other: list[int | str]) -> None:
    assert (derive(seed, *one) == derive(seed, *other)) == (one == other)
    assert 0 <= derive(seed, *one) < 2**63


def test_a_stream_starts_anew_at_every_call_and_leaves_the_shared_one_alone() -> None:
    before = torch.random.get_rng_state()
    first = torch.rand(3, generator=generator(1, "gates", 2))
    assert torch.equal(first, torch.rand(3, generator=generator(1, "gates", 2)))
    assert not torch.equal(first, torch.rand(3, generator=generator(1, "gates", 3)))
    assert not torch.equal(first, torch.rand(3, generator=generator(1, "order", 2)))
    assert torch.equal(before, torch.random.get_rng_state())
