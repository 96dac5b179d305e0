"""A network of others trains as a chain as it does by itself: losses, weights and statistics, to the bit."""

import copy

import pytest
import torch
from tests.convert.networks import SWIN, foreign
from tests.oracles import images, in_turn
from timm.layers.drop import DropPath
from timm.layers.std_conv import ScaledStdConv2d
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD
from torchvision.ops import StochasticDepth

from howdeep.chain import Chain
from howdeep.convert import unravel
from howdeep.runtime.checkpointing import Checkpointed
from howdeep.runtime.modes import norms_of
from howdeep.transform.folding import fold_norms
from howdeep.transform.removal import without
from howdeep.util.errors import UserError

NETWORKS = {
    "densenet": ("torchvision:DenseNet", 32, {"block_config": (3, 3), "num_init_features": 16, "drop_rate": 0.2}),
    "efficientnet": ("timm:test_efficientnet", 32, {"drop_rate": 0.3, "drop_path_rate": 0.2}),
    "vit": ("timm:test_vit", 32, {"img_size": 32, "proj_drop_rate": 0.1}),
    **{name: (f"timm:test_{name}", 32, {}) for name in ("resnet", "byobnet", "convnext")},
}
"""Small relatives of the table's networks in docs/unravel.md."""
BY_HAND = {
    "windows": ("torchvision:SwinTransformer", 32, {**SWIN, "dropout": 0.1}),
    **dict.fromkeys(("resnet18", "resnet50", "densenet121", "mobilenet_v2", "mobilenet_v3_large", "efficientnet_b0")),
    "nfnet": ("timm:test_nfnet", 64, {}),
    **dict.fromkeys(("regnet_y_400mf", "shufflenet_v2_x1_0", "mnasnet1_0", "vgg16_bn", "squeezenet1_1")),
    **{name: (f"timm:{name}", 64, {}) for name in ("seresnet18", "res2net50_26w_4s", "ghostnet_100", "repvgg_a0")},
    **{
        name: (f"timm:{name}", 64, {}) for name in ("dpn68", "starnet_s1", "mobilenetv4_conv_small", "convmixer_768_32")
    },
}
"""Networks of the table; without more, torchvision's, on images of 64 pixels."""
CASES = [*NETWORKS, *(pytest.param(name, marks=pytest.mark.slow) for name in BY_HAND)]


def network(case: str) -> tuple[nn.Module, Tensor]:
    """A network whose branches stay open, as those of its chain do, and a batch for it."""
    name, pixels, options = (NETWORKS | BY_HAND)[case] or (f"torchvision:{case}", 64, {})
    model = foreign(name, num_classes=10, **options)
    for module in model.modules():
        if type(module).__name__ in ("DropPath", "StochasticDepth"):
            for rate in ("drop_prob", "p"):
                if hasattr(module, rate):
                    setattr(module, rate, 0.0)
    return model, images(4, size=pixels)


def step(model: nn.Module, optimizer: SGD, x: Tensor, seed: int) -> float:
    torch.manual_seed(seed)
    loss = F.cross_entropy(model(x), torch.arange(len(x)))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def trained(model: nn.Module, x: Tensor, *, steps: int = 3) -> list[float]:
    """Train a network, in place, and return its losses; dropout draws the same numbers every time."""
    model.train()
    optimizer = SGD(model.parameters(), 0.01, momentum=0.9)
    return [step(model, optimizer, x.roll(seed, 0), seed) for seed in range(steps)]


def assert_equal_state(one: nn.Module, other: nn.Module) -> None:
    """Chain and network share their tensors, so that each is compared with a twin of the other."""
    mine, theirs = one.state_dict(), other.state_dict()
    assert mine.keys() == theirs.keys()
    different = [name for name, value in mine.items() if not torch.equal(value, theirs[name])]
    assert not different


@pytest.mark.parametrize("case", CASES)
def test_three_steps_are_those_of_the_network(case, dense):
    model, chain, x = dense if case == "densenet" else _traced(case)
    model, (owner, chain) = copy.deepcopy(model), copy.deepcopy((model, chain))
    assert trained(chain, x) == trained(model, x)
    assert_equal_state(owner, model)
    with torch.no_grad():
        assert torch.equal(chain.eval()(x), model.eval()(x))


@pytest.fixture(scope="module")
def dense():
    """A network with batch norm and dropout, its chain, and images; tests work on copies."""
    return _traced("densenet")


def _traced(case: str) -> tuple[nn.Module, Chain, Tensor]:
    model, x = network(case)
    return model, unravel(model, x[:1]), x


def test_modules_have_the_networks_names_and_share_its_tensors(dense):
    model, chain, _ = dense
    norms = {name: module for name, module in chain.named_modules() if isinstance(module, nn.BatchNorm2d)}
    theirs = {name: module for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)}
    assert len(norms) == len(theirs)
    for name, norm in norms.items():
        own = next(theirs[other] for other in theirs if name.endswith(f".{other}"))
        assert all(one is other for one, other in zip(norm.buffers(), own.buffers(), strict=True))
        assert all(one is other for one, other in zip(norm.parameters(), own.parameters(), strict=True))
        assert (norm.eps, norm.momentum) == (own.eps, own.momentum)
    held = {name.partition("features.")[2] or name.rpartition("classifier")[2] for name in chain.state_dict()}
    assert held == {name.partition("features.")[2] or name.rpartition("classifier")[2] for name in model.state_dict()}
    assert sum(isinstance(module, nn.Dropout) for module in chain.modules()) == len(chain)


def test_a_copy_and_a_state_that_was_loaded_train_alike(dense):
    _, chain, x = dense
    copied, loaded = copy.deepcopy(chain), copy.deepcopy(chain)
    for value in loaded.state_dict().values():
        value.zero_()
    loaded.load_state_dict(chain.state_dict())
    assert trained(copied, x) == trained(loaded, x)
    assert_equal_state(copied, loaded)
    assert not torch.equal(*(one.state_dict()["stem.features.conv0.weight"] for one in (copied, chain)))


def test_activations_computed_twice_move_statistics_once(dense):
    _, chain, x = dense
    kept, twice = copy.deepcopy(chain), copy.deepcopy(chain)
    assert trained(kept, x) == trained(Checkpointed(twice, 3), x)
    assert_equal_state(kept, twice)


def test_without_units_it_trains_and_evaluates(dense):
    _, chain, x = dense
    cut = without(chain, [1, 4])
    closed = copy.deepcopy(chain)
    gates = [0.0 if unit in (1, 4) else 1.0 for unit in range(len(chain))]
    with torch.no_grad():
        torch.testing.assert_close(cut(x), closed(x, gates))
    closed.train()
    cut.train()
    for one, options in ((cut, {}), (closed, {"gates": gates})):
        torch.manual_seed(0)
        one(x, **options).logsumexp(1).sum().backward()
    for name in ("stem.features.conv0.weight", "head.classifier.weight"):
        one, other = (dict(own.named_parameters())[name].grad for own in (cut, closed))
        torch.testing.assert_close(one, other)
    assert not fold_norms(cut).training


def test_one_norm_may_stay_in_evaluation(dense):
    _, chain, x = dense
    chain = copy.deepcopy(chain).train()
    norms = [module for module in chain.modules() if isinstance(module, nn.BatchNorm2d)]
    norms[0].eval()
    before = [norm.running_mean.clone() for norm in norms]  # type: ignore[union-attr]
    chain(x)
    moved = [not torch.equal(norm.running_mean, old) for norm, old in zip(norms, before, strict=True)]  # type: ignore[arg-type]
    assert moved == [False] + [True] * (len(norms) - 1)


def test_channels_last_double_and_another_device(dense):
    _, chain, x = dense
    chain, x = copy.deepcopy(chain).double(), x.double()
    for module in chain.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # its numbers are drawn in the order of the memory
    other = copy.deepcopy(chain).to(memory_format=torch.channels_last)
    losses = trained(other, x.contiguous(memory_format=torch.channels_last))
    assert losses == pytest.approx(trained(copy.deepcopy(chain), x), rel=1e-9)
    assert copy.deepcopy(chain).to("meta").train()(x.to("meta")).is_meta


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch.compile's own
def test_compiled_it_trains_as_it_does_otherwise():
    model, x = network("resnet")
    chain, x = unravel(model, x[:1]).double(), x.double()
    compiled = copy.deepcopy(chain)
    for unit in compiled.units:
        unit.branch.compile()
    assert trained(compiled, x) == pytest.approx(trained(chain, x), rel=1e-9)
    for (name, one), other in zip(compiled.state_dict().items(), chain.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-9, msg=name)


class Network(nn.Module):
    """A residual network with one layer of one's own in its branch."""

    def __init__(self, own: nn.Module, **norm: object) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.conv, self.own = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), own
        self.norm, self.head = nn.BatchNorm2d(4, **norm), nn.Linear(4, 5)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.own(self.norm(self.conv(x)))
        return self.head(x.relu().mean((2, 3)))


class Function(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


class Twice(nn.Module):
    """A layer that runs twice."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.layer(x).relu())


class Attention(nn.MultiheadAttention):
    """Attention among the places of a map."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        flat = x.flatten(2).permute(2, 0, 1)
        return super().forward(flat, flat, flat, need_weights=False)[0].permute(1, 2, 0).view_as(x)


class Computed(nn.Module):
    """A norm by hand, with its own names."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("variance", torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.mean, self.variance, self.scale, None, self.training, 0.3)  # type: ignore[arg-type]


class Fixed(nn.BatchNorm2d):
    """A norm that is never trained."""

    def train(self, mode: bool = True) -> "Fixed":
        return super().train(False)


FOLLOWED = {
    "dropout as a function": lambda: Function(lambda own, x: F.dropout(x, 0.5, own.training)),
    "in place": lambda: nn.Dropout(0.5, inplace=True),
    "of maps": lambda: nn.Dropout2d(0.5),
    "of maps, other": lambda: nn.FeatureAlphaDropout(0.5),
    "alpha": lambda: nn.AlphaDropout(0.5),
    "never": lambda: Function(lambda own, x: F.dropout(x, 0.5, training=False)),
    "norm twice": lambda: Twice(nn.BatchNorm2d(4)),
    "norm of every batch twice": lambda: Twice(nn.BatchNorm2d(4, track_running_stats=False)),
    "dropout twice": lambda: Twice(nn.Dropout(0.5)),
    "function twice": lambda: Twice(Function(lambda own, x: F.dropout(x, 0.5, own.training))),
    "norm by hand": Computed,
    "fixed norm": lambda: Fixed(4),
    "attention": lambda: Attention(4, 2),
    "group norm": lambda: nn.GroupNorm(2, 4),
    "no statistics": lambda: nn.BatchNorm2d(4, track_running_stats=False),
    "weights standardised": lambda: ScaledStdConv2d(4, 4, 3, padding=1),
    "nothing learned": lambda: nn.BatchNorm2d(4, affine=False),
}


@pytest.mark.parametrize(("kind", "momentum"), in_turn(FOLLOWED, [0.1, None]))
def test_what_follows_the_mode_is_followed(kind, momentum):
    model, x = Network(FOLLOWED[kind](), momentum=momentum).eval(), images(5)
    owner = copy.deepcopy(model)
    chain = unravel(owner, x[:1])
    with torch.no_grad():
        assert torch.equal(chain(x), model(x))
    assert trained(chain, x) == trained(model, x)
    assert_equal_state(owner, model)
    with torch.no_grad():
        assert torch.equal(chain.eval()(x), model.eval()(x))


def noise(own, x):
    return x + torch.randn_like(x) if own.training else x


def dropout_if_training(own, x):
    return F.dropout(x, 0.5) if own.training else x


def scaled(own, x):
    return x * (2.0 if own.training else 1.0)


def fails(own, x):
    return own.nothing if own.training else x


REFUSED = {
    "no training": (lambda: Function(fails), "its training mode could not be looked at: .* has no attribute 'nothing'"),
    "attention's dropout": (
        lambda: Attention(4, 2, dropout=0.1),
        r"own \(Attention\) computes .* in training mode and .*attention.* in evaluation",
    ),
    "noise": (lambda: Function(noise), r"own \(Function\) computes .*aten.randn_like.* in training mode"),
    "rrelu": (nn.RReLU, r"own \(RReLU\) gives aten.rrelu_with_noise.default something else in training mode"),
    "instance norm": (
        lambda: nn.InstanceNorm2d(4, track_running_stats=True),
        r"own \(InstanceNorm2d\) ",
    ),
    "dropout behind a condition": (
        lambda: Function(dropout_if_training),
        r"own \(Function\) computes dropout in training mode alone",
    ),
    "another number": (lambda: Function(scaled), r"own \(Function\) gives aten.mul.Tensor something else in training"),
}


@pytest.mark.parametrize("kind", REFUSED)
@torch.no_grad()
def test_what_depends_on_the_mode_otherwise_is_refused_for_training_alone(kind):
    make, told = REFUSED[kind]
    model, x = Network(make()).eval(), images(3)
    chain = unravel(model, x[:1])
    assert torch.equal(chain(x), model(x))
    assert [norm.running_mean is model.norm.running_mean for norm in norms_of(chain)][:1] == [True]
    for one in (chain, copy.deepcopy(chain), without(chain, [])):
        with pytest.raises(UserError, match=f"^Network cannot be trained as a chain: {told}[^\n]*$"):
            one.train()
        assert not any(module.training for module in chain.modules())
        assert torch.equal(one(x), model(x))


@pytest.mark.parametrize("own", [StochasticDepth(0.3, "row"), DropPath(0.3)])
def test_the_rate_of_a_drop_path_is_told_and_its_chain_leaves_the_branch_open(own):
    chain, x = unravel(Network(own), images(1)).train(), images(4)
    assert chain.modes.drop_path == 0.3
    assert torch.equal(chain(x), chain(x))
    assert unravel(Network(nn.ReLU()), images(1)).modes.drop_path == 0
