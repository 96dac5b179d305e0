"""Small networks made by hand: what is a unit, what belongs to its branch, and what is refused."""

import collections
import copy
import logging
import sys
import types
from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
from tests.oracles import images
from torch import nn
from torch.nn import functional as F

from howdeep.chain import Add, Concatenate, Replace
from howdeep.convert import unravel
from howdeep.util.errors import UserError


class Network(nn.Module):
    """A network of a function: four maps of the images, what the function makes of them, and scores."""

    def __init__(self, function):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 5)
        self.one, self.two, self.three = (nn.Conv2d(4, 4, 3, padding=1) for _ in range(3))
        self.project, self.norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.position, self.table = nn.Parameter(torch.randn(4, 1, 1)), torch.tensor([1.0, 2.0, 3.0, 4.0])
        self.function = function

    def forward(self, x):
        return self.head(self.function(self, self.stem(x)).mean((2, 3)))


def unit(n, x):
    return x + n.two(F.relu(n.one(x)))


def in_place(n, x):
    x += n.one(x)
    return F.relu_(x)


def shortcut_reads_what_the_branch_wrote(n, x):
    return n.one(F.relu_(x)) + x


def view_is_written(n, x):
    y = x + n.one(x)
    y[:, :1] = 0
    return y + n.two(y)


def nested(n, x):
    y = n.one(x)
    return x + n.two(y + n.three(y))


def parallel(n, x):
    return x + n.one(x) + n.two(F.relu(x))


def parallel_and_written_over(n, x):
    y = n.one(x)
    z = x + y
    return z + n.two(F.relu_(y))


def view_is_written_over(n, x):
    y = n.project(x)
    return n.one(F.relu_(x.flatten(2)).view(x.shape)) + y


def projected(n, x):
    return F.relu(n.norm(n.project(x)) + n.two(F.relu(n.one(x))))


def shared_activation(n, x):
    y = F.relu(n.norm(x))
    return n.project(y) + n.two(F.relu(n.one(y)))


def same_branch_twice(n, x):
    x = x + n.one(x)
    return x + n.one(x)


def grows(n, x):
    y = torch.cat([x, n.one(x)], 1)
    return torch.cat([y, n.two(y[:, 4:])], 1)[:, 8:]


def reads_all_before(n, x):
    y = n.one(torch.cat([x], 1))
    z = n.two(torch.cat([x, y], 1)[:, 2:6])
    return torch.cat([x, y, z], 1)[:, 4:8]


def masked(n, x):
    mask = torch.zeros(8, 8)
    mask[2:4] = torch.arange(8.0)
    return x + n.one(x * mask + n.table.view(4, 1, 1) + torch.full((x.shape[0], 1, 1, 1), 0.5))


def position(n, x):
    return unit(n, x + n.position)


FOUND = {
    unit: 1,
    in_place: 1,
    shortcut_reads_what_the_branch_wrote: 1,
    view_is_written: 2,
    nested: 1,
    parallel: 1,
    parallel_and_written_over: 1,
    view_is_written_over: 1,
    projected: 1,
    shared_activation: 1,
    same_branch_twice: 2,
    grows: 2,
    reads_all_before: 2,
    masked: 1,
    position: 1,
}


@pytest.mark.parametrize("function", FOUND, ids=lambda function: function.__name__)
@torch.no_grad()
def test_units_are_found_and_scores_are_the_networks(function):
    network = Network(function).eval()
    chain = unravel(network, images(1))
    assert len(chain) == FOUND[function]
    dense = function in (grows, reads_all_before)
    assert all(type(unit.merge) is (Concatenate if dense else Add) for unit in chain.units)
    for count in (1, 2, 5):
        batch = images(count, seed=count)
        rounding = 1e-6 if function in (parallel, parallel_and_written_over) else 0
        torch.testing.assert_close(chain(batch), network(batch), rtol=0, atol=rounding)


CLOSED = {
    in_place: lambda n, x: F.relu(x),
    shortcut_reads_what_the_branch_wrote: lambda n, x: F.relu(x),
    nested: lambda n, x: x,
    parallel: lambda n, x: x,
    projected: lambda n, x: F.relu(n.norm(n.project(x))),
    shared_activation: lambda n, x: n.project(F.relu(n.norm(x))),
    position: lambda n, x: x + n.position,
    masked: lambda n, x: x,
}


@pytest.mark.parametrize("function", CLOSED, ids=lambda function: function.__name__)
@torch.no_grad()
def test_closing_every_unit_leaves_the_shortcuts(function):
    chain = unravel(Network(function), images(1))
    without = Network(CLOSED[function]).eval()
    for gate in (0.0, None, torch.tensor([False, False])):
        assert torch.equal(chain(images(2), [gate]), without(images(2)))


@pytest.mark.parametrize("function", [in_place, view_is_written_over], ids=lambda function: function.__name__)
@torch.no_grad()
def test_no_part_writes_over_its_input(function):
    chain = unravel(Network(function), images(1))
    before = chain.stem(images(2))
    kept = before.clone()
    for gate in (1.0, 0.0):
        chain.head(chain.units[0](before, gate))
        assert torch.equal(before, kept)


def shares(n, x):
    y = n.norm(x)
    return n.project(y) + n.two(F.relu(y) + x)


def product(n, x):
    return x * n.project(x) + n.two(F.relu(n.one(x)))


def broadcast(n, x):
    return x.mean((2, 3), keepdim=True) + n.two(F.relu(n.one(x)))


def weighted(n, x):
    return torch.add(x, n.one(x), alpha=2)


def doubled(n, x):
    return (x + n.one(x)) + (x + n.two(x))


def read_twice(n, x):
    y = x + n.one(x)
    return y + n.two(F.relu(y) * x)


@pytest.mark.parametrize(
    "function", [shares, product, broadcast, weighted, doubled, read_twice], ids=lambda function: function.__name__
)
@torch.no_grad()
def test_other_sums_are_layers(function):
    network = Network(function).eval()
    chain = unravel(network, images(1))
    assert [type(unit.merge) for unit in chain.units] == [Replace]
    assert torch.equal(chain(images(2)), network(images(2)))


def test_a_branch_used_twice_shares_its_parameters():
    one, two = unravel(Network(same_branch_twice), images(1)).units
    assert [id(weight) for weight in one.parameters()] == [id(weight) for weight in two.parameters()]
    assert one.name != two.name


@torch.no_grad()
def test_tensors_made_on_the_way_follow_type_and_device():
    chain = unravel(Network(masked), images(1)).double()
    assert chain(images(3).double()).dtype == torch.float64
    assert chain.to("meta")(images(3).double().to("meta")).is_meta


def decides(n, x):
    return unit(n, x) if x.sum() > 0 else x


def fixed_batch(n, x):
    return unit(n, x.reshape(2, 4, -1, 8))


def random(n, x):
    return unit(n, F.dropout(x, 0.5, training=True))


def no_units(n, x):
    return x.relu()


def autocast(n, x):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = n.one(x)
    return x + y


REFUSED = {
    autocast: "another mode",
    decides: "cannot be traced",
    fixed_batch: "cannot be traced",
    random: "it is random or decides by values",
    no_units: "looked for",
}


@pytest.mark.parametrize("function", REFUSED, ids=lambda function: function.__name__)
def test_refusal_is_one_line_and_leaves_the_network_as_it_was(function):
    network = Network(function).train()
    network.norm.eval()
    with pytest.raises(UserError, match=REFUSED[function]) as refusal:
        unravel(network, images(4))
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 500
    assert network.training
    assert not network.norm.training


class Returning(nn.Module):
    """A network that returns what a function makes of its scores."""

    def __init__(self, function):
        super().__init__()
        self.network, self.function = Network(unit), function

    def forward(self, x):
        return self.function(self.network(x))


@dataclass
class Scored:
    logits: torch.Tensor
    loss: None = None


class Named(NamedTuple):
    logits: torch.Tensor
    auxiliary: torch.Tensor


RETURNED = {
    "object": Scored,
    "namespace": lambda x: types.SimpleNamespace(logits=x),
    "named tuple": lambda x: Named(x, x + 1),
    "dictionary": lambda x: {"features": x + 1, "logits": x},
    "ordered dictionary": lambda x: collections.OrderedDict(loss=None, logits=x),
    "tuple of one": lambda x: (x,),
}


@pytest.mark.parametrize("kind", RETURNED)
@torch.no_grad()
def test_scores_are_found_in_what_a_network_returns(kind):
    network = Returning(RETURNED[kind]).eval()
    chain = unravel(network, images(1))
    assert len(chain) == 1
    assert torch.equal(chain(images(3)), network.network(images(3)))
    assert type(network(images(1))) is not torch.Tensor


@pytest.mark.parametrize(
    ("function", "what"),
    [
        (lambda x: (x, x), "a tuple of 2"),
        (lambda x: {"scores": x}, "a dict with 'scores'"),
        (lambda x: None, "a NoneType"),
        (lambda x: {"logits": [x]}, "a dict with 'logits'"),
    ],
)
def test_network_that_returns_no_scores_is_refused(function, what):
    network = Returning(function)
    with pytest.raises(UserError, match=f"Returning does not return one tensor or logits, but {what}"):
        unravel(network, images(1))
    assert not network._forward_hooks


WRAPPED = {
    "parallel": nn.DataParallel,
    "compiled": torch.compile,
    "compiled in parallel": lambda network: nn.DataParallel(torch.compile(network)),  # type: ignore[arg-type]
    "parallel, compiled": lambda network: torch.compile(nn.DataParallel(network)),
}


@pytest.mark.parametrize("how", WRAPPED)
@torch.no_grad()
def test_what_runs_a_network_in_parallel_or_compiled_is_taken_off(how):
    network = Network(unit)
    chain, plain = unravel(WRAPPED[how](network), images(1)), unravel(network, images(1))
    assert chain.names == plain.names
    assert list(chain.state_dict()) == list(plain.state_dict())
    assert {id(weight) for weight in chain.parameters()} == {id(weight) for weight in plain.parameters()}


@torch.no_grad()
def test_a_network_that_is_distributed_is_taken_out(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        network = Network(unit)
        wrapped = nn.parallel.DistributedDataParallel(network)
        assert unravel(torch.compile(wrapped), images(1)).names == unravel(network, images(1)).names  # type: ignore[arg-type]
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize("given", [lambda x: x, Network, "resnet18", None, nn.DataParallel(nn.Identity()).forward])
def test_what_is_no_network_is_refused_in_one_line(given):
    with pytest.raises(UserError, match=r"^unravel takes a network that is a torch.nn.Module, not [^\n]+$"):
        unravel(given, images(1))


LOG = logging.getLogger("torch.fx.experimental.symbolic_shapes")


def decides_and_is_logged(n, x):
    LOG.warning("a line of PyTorch's")
    return decides(n, x)


def test_a_refusal_writes_nothing_else(capfd):
    """On the file descriptor itself: PyTorch's loggers keep the stream that they began with."""
    handler, level = logging.StreamHandler(sys.stderr), LOG.level
    LOG.addHandler(handler)
    try:
        for function in (decides_and_is_logged, fixed_batch):
            with pytest.raises(UserError, match="cannot be traced"):
                unravel(Network(function), images(4))
        assert capfd.readouterr() == ("", "")
        LOG.warning("heard again")
    finally:
        LOG.removeHandler(handler)
    assert "heard again" in capfd.readouterr().err
    assert LOG.level == level


@torch.no_grad()
def test_the_network_itself_stays_as_it_was():
    network = Network(projected).train()
    before = copy.deepcopy(network.state_dict())
    with torch.inference_mode():
        chain = unravel(network, images(2))
    assert network.training
    assert not chain.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert torch.equal(chain(images(2)), network.eval()(images(2)))


def test_two_classifiers_that_are_added_up_are_no_unit():
    class Distilled(Network):
        def __init__(self):
            super().__init__(unit)
            self.other = nn.Linear(4, 5)

        def forward(self, x):
            y = self.function(self, self.stem(x)).mean((2, 3))
            return (self.head(y) + self.other(y)) / 2

    assert len(unravel(Distilled(), images(1))) == 1
