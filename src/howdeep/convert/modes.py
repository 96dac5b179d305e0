"""How a network depends on its mode: by norms and dropout, which a chain keeps as modules; anything else is refused.

The network runs twice on tensors without numbers, in evaluation and in training mode. Norms are told to use their
running statistics and dropout to do nothing both times, so that whatever else differs is something that a chain cannot
do. Both passes take a fifth of the time of the trace; a trace in training mode would take as long again. In the trace
the norms and dropouts become modules with the network's own tensors.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import Node
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from howdeep.convert.simplify import DROPOUTS
from howdeep.convert.trace import BATCH, Traced, aten, logits_of, modules_of, quiet, reason_of

DROP_PATHS = ("DropPath", "StochasticDepth")
"""How the classes end that close branches at random (torchvision, timm, Hugging Face). A chain has gates for that."""
DROPOUT_FUNCTIONS = {F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout}


@dataclass(frozen=True)
class Modes:
    """How a network in training mode differs from itself in evaluation mode."""

    norms: frozenset[str] = frozenset()
    """Running means of the norms that use the statistics of the batch in training."""
    dropouts: tuple[bool, ...] = ()
    """Of every dropout with a probability, in the order of the calls, whether it acts in training."""
    drop_path: float = 0.0
    """The highest probability with which the network closes a branch in training. Its chain leaves that to gates."""
    refusal: str | None = None
    """Why its chain cannot be trained, in one line; None where it can."""


def modes_of(model: nn.Module, example: Tensor) -> Modes:
    """Return how a network depends on its mode; the network is left as it was.

    Args:
        model: The network, which reads one tensor and returns logits.
        example: Images, shape (batch, channels, height, width).
    """
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    fastpath = torch.backends.mha.get_fastpath_enabled()
    try:
        with quiet(), torch.inference_mode(False), torch.no_grad():
            torch.backends.mha.set_fastpath_enabled(False)  # attention takes it in evaluation alone, with equal results
            # A twin, as some networks keep what they compute in evaluation.
            twin = copy.deepcopy(model, {id(one): fake.from_tensor(one) for one in _tensors(model)})
            images = fake.from_tensor(example.new_zeros(BATCH, *example.shape[1:]))
            for module in twin.modules():
                if isinstance(module, _BatchNorm) and module.momentum is None:
                    module.momentum = 0.0  # an average of all batches asks for their number, which is not known here
            evaluation = _recorded(twin.eval(), images, fake)
            paths = [module for module in twin.train().modules() if type(module).__name__.endswith(DROP_PATHS)]
            for module in paths:
                module.training = False
            training = _recorded(twin, images, fake)
    except Exception as error:  # whatever the network's own code raises, or copying it
        norms = {f"{name}.running_mean" for name, one in model.named_modules() if isinstance(one, _BatchNorm)}
        why = f"{refused(model)}: its training mode could not be looked at: {reason_of(error)}"
        return Modes(frozenset(norms), refusal=why)
    finally:
        torch.backends.mha.set_fastpath_enabled(fastpath)
    drop_path = max((float(getattr(one, "drop_prob", getattr(one, "p", 0)) or 0) for one in paths), default=0.0)
    difference = _difference(twin, evaluation.live(), training.live())
    if difference is not None:
        return Modes(frozenset(training.norms), (), drop_path, f"{refused(model)}: {difference}")
    pairs = zip(evaluation.live(), training.live(), strict=True)
    # What acts in evaluation too does not depend on the mode.
    acting = tuple(other.acts for one, other in pairs if one.operator == "dropout" and not one.acts)
    return Modes(frozenset(training.norms), acting, drop_path)


def refused(model: nn.Module) -> str:
    """Return how every refusal begins."""
    return f"{type(model).__name__} cannot be trained as a chain"


def _tensors(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]


@dataclass(frozen=True, eq=False)
class _Call:
    """One operator of a pass."""

    owner: str
    """The module in whose forward pass it ran."""
    operator: str
    given: Any
    """Its arguments, tensors among them."""
    returned: Any
    acts: bool = False
    """Of dropout, whether it was asked to act."""


class _Recorder(TorchDispatchMode):
    """Keeps the operators of one pass, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[_Call] = []
        self.owners = [""]
        self.norms: set[str] = set()
        self.result: Tensor | None = None

    def __torch_dispatch__(self, operator: Any, types: object, args: tuple = (), kwargs: dict | None = None) -> Any:
        returned = operator(*args, **(kwargs or {}))
        self.keep(str(operator), (args, kwargs or {}), returned)
        return returned

    def keep(self, operator: str, given: Any, returned: Any, *, acts: bool = False) -> None:
        self.calls.append(_Call(self.owners[-1], operator, given, returned, acts))

    def live(self) -> list[_Call]:
        """Return the calls that the result depends on: auxiliary classifiers and counters of batches are not."""
        assert self.result is not None
        needed, kept = {_memory(self.result)}, []
        for call in reversed(self.calls):
            if needed.intersection(_memories(call.returned)):
                kept.append(call)
                needed.update(_memories(call.given))
        return kept[::-1]


class _Switches(TorchFunctionMode):
    """Lets norms use their running statistics and dropout do nothing, and notes what they were asked to do."""

    def __init__(self, recorder: _Recorder, model: nn.Module) -> None:
        super().__init__()
        self.recorder, self.names = recorder, {id(buffer): name for name, buffer in model.named_buffers()}

    def __torch_function__(self, function: Any, types: object, args: tuple = (), kwargs: dict | None = None) -> Any:
        options = dict(kwargs or {})
        if function is F.batch_norm and args[1] is not None:
            if options["training"]:
                self.recorder.norms.add(self.names[id(args[1])])
            options["training"] = False
        elif function in DROPOUT_FUNCTIONS:
            if options["p"]:
                self.recorder.keep("dropout", (options["p"], args[0]), args[0], acts=options["training"])
            options["training"] = False
        return function(*args, **options)


def _recorded(model: nn.Module, images: Tensor, fake: FakeTensorMode) -> _Recorder:
    """Return the operators of a pass of a network in the mode that it is in."""
    recorder = _Recorder()
    hooks = []
    for name, module in model.named_modules():
        hooks.append(module.register_forward_pre_hook(partial(_enter, recorder, name)))
        hooks.append(module.register_forward_hook(partial(_leave, recorder)))
    try:
        with fake, recorder, _Switches(recorder, model):
            recorder.result = logits_of(model, model(images))
    finally:
        for hook in hooks:
            hook.remove()
    return recorder


def _enter(recorder: _Recorder, name: str, *_: object) -> None:
    recorder.owners.append(name)


def _leave(recorder: _Recorder, *_: object) -> None:
    recorder.owners.pop()


def _memory(tensor: Tensor) -> int:
    """Return what tells the memory of a tensor from that of others; views share it, and so does what writes over it."""
    return tensor.untyped_storage()._cdata


def _memories(values: Any) -> set[int]:
    return {_memory(one) for one in tree_leaves(values) if isinstance(one, Tensor)}


def _difference(model: nn.Module, evaluation: Sequence[_Call], training: Sequence[_Call]) -> str | None:
    """Return what a network does in one mode and not in the other, or None."""

    def where(call: _Call) -> str:
        return f"{call.owner} ({type(model.get_submodule(call.owner)).__name__})" if call.owner else "its own forward"

    before, after = ([(call.owner, call.operator) for call in calls] for calls in (evaluation, training))
    if before != after:
        steps = SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
        _, first, end, other, other_end = next(step for step in steps if step[0] != "equal")
        one, two = evaluation[first:end], training[other:other_end]
        does = " and ".join(
            f"{calls[0].operator} in {mode}" for calls, mode in ((two, "training mode"), (one, "evaluation")) if calls
        )
        return f"{where((two or one)[0])} computes {does}{'' if one and two else ' alone'}"
    for one, two, same in zip(evaluation, training, _same(model, evaluation, training), strict=True):
        if not same:
            return f"{where(two)} gives {one.operator} something else in training mode than in evaluation"
    return None


def _same(model: nn.Module, *passes: Sequence[_Call]) -> list[bool]:
    """Return for every operator of two passes whether it was given the same, tensors told apart by where they arose."""
    columns = []
    for calls in passes:
        numbers = {id(tensor): number for number, tensor in enumerate(_tensors(model))}

        def numbered(value: Any, numbers: dict[int, int] = numbers) -> Any:
            return ("tensor", numbers.setdefault(id(value), len(numbers))) if isinstance(value, Tensor) else value

        columns.append([tree_map(numbered, (call.given, call.returned)) for call in calls])
    return [one == other for one, other in zip(*columns, strict=True)]


NORMS = {4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
"""The norm by the number of axes of its input; with fewer axes it is the one-dimensional norm."""
FEATURE_DROPOUTS = {3: nn.Dropout1d, 4: nn.Dropout2d, 5: nn.Dropout3d}

Layers = dict[Node, tuple[str, nn.Module]]
"""The operators that are modules in a part, with the names that they have in the network."""


def layers_of(traced: Traced, model: nn.Module, modes: Modes) -> tuple[Layers, Modes]:
    """Return the layers that depend on the mode, and take dropout that never acts out of the graph.

    Returns:
        The layers, and the modes, with a refusal where a layer could not be made.
    """
    norms, computed = _norms(traced, model, modes)
    dropouts, lost = _dropouts(traced, model, modes)
    return norms | dropouts, replace(modes, refusal=modes.refusal or computed or lost)


def _norms(traced: Traced, model: nn.Module, modes: Modes) -> tuple[Layers, str | None]:
    """Return one module per norm, also where it runs twice, and why there is one missing."""
    found: Layers = {}
    norms: dict[str, nn.Module] = {}
    for node in traced.graph.find_nodes(op="call_function", target=aten.batch_norm.default):
        given: tuple[Any, ...] = node.args
        x, *tensors, _, momentum, eps, _ = given
        (_, weight), (_, bias), (mean_name, mean), (_, variance) = (
            traced.weights.get(one, ("", None)) for one in tensors
        )
        owner = mean_name.rpartition(".")[0] if mean is not None else _owner(node)
        like = model.get_submodule(owner)
        # Without running statistics it may be a function that standardises weights, in both modes alike.
        if not (mean_name in modes.norms or (mean is None and isinstance(like, _BatchNorm))):
            continue
        if any(one is not None and one not in traced.weights for one in tensors):
            return found, f"{refused(model)}: the norm {owner} computes its weights"
        if owner not in norms:
            norms[owner] = _norm(like, x.meta["val"], (weight, bias, mean, variance), momentum=momentum, eps=eps)
        found[node] = owner, norms[owner]
    return found, None


def _norm(like: nn.Module, x: Tensor, tensors: tuple[Tensor | None, ...], *, momentum: float, eps: float) -> _BatchNorm:
    """Return a norm of given tensors; what the trace does not say is that of the module that computed it."""
    norm = NORMS.get(x.dim(), nn.BatchNorm1d)(x.shape[1], eps=eps, momentum=momentum, device="meta")
    for name, tensor in zip(("weight", "bias", "running_mean", "running_var"), tensors, strict=True):
        setattr(norm, name, tensor)
    norm.num_batches_tracked = getattr(like, "num_batches_tracked", None)
    if isinstance(like, _BatchNorm):
        norm.momentum, norm.track_running_stats = like.momentum, like.track_running_stats
    return norm


def _dropouts(traced: Traced, model: nn.Module, modes: Modes) -> tuple[Layers, str | None]:
    """Return one module per dropout that acts in training, and why some are missing; what always acts stays."""
    nodes: list[Any] = [node for node in traced.graph.nodes if node.target in DROPOUTS]
    following = [node for node in nodes if node.args[1] and not node.args[2]]
    told_apart = len(following) == len(modes.dropouts)
    acting = {node for node, acts in zip(following, modes.dropouts, strict=False) if acts and told_apart}
    found: Layers = {}
    for node in nodes:
        if node in acting:
            found[node] = _dropout_name(model, node, found), _dropout(node)
        elif node in following or not node.args[1]:
            node.replace_all_uses_with(node.args[0])
            traced.graph.erase_node(node)
    lost = f"{refused(model)}: its dropout cannot be found in the trace"
    return found, lost if any(modes.dropouts) and not told_apart else None


def _dropout(node: Any) -> nn.Module:
    x, probability, _ = node.args
    kinds = {
        "dropout": nn.Dropout,
        "feature_dropout": FEATURE_DROPOUTS.get(x.meta["val"].dim(), nn.Dropout),
        "alpha_dropout": nn.AlphaDropout,
        "feature_alpha_dropout": nn.FeatureAlphaDropout,
    }
    return kinds[node.target.overloadpacket.__name__.removesuffix("_")](probability)


def _dropout_name(model: nn.Module, node: Node, taken: Layers) -> str:
    """Return the name of a dropout module, or a new one below the module that called the function."""
    owner = _owner(node)
    if isinstance(model.get_submodule(owner), _DropoutNd):
        return owner
    name = f"{owner}.dropout" if owner else "dropout"
    number = sum(known.startswith(name) for known, _ in taken.values())
    return f"{name}_{number}" if number else name


def _owner(node: Node) -> str:
    """Return the module in whose forward pass a node was made; empty for the network itself."""
    return (modules_of(node) or [""])[-1]
