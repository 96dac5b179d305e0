"""The first and the last weighted layer of a chain, found by watching it compute: for other channels, other classes."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from howdeep.chain import Chain, run
from howdeep.convert.weighted import Layer, weighted_layers
from howdeep.util.errors import UserError


def replace_classifier(chain: Chain, example: Tensor, classes: int, *, seed: int) -> list[str]:
    """Give a chain a new classifier, in place; every layer before it stays.

    The classifier is the last weighted layer of the head, or several side by side (a network that averages the logits
    of two), each of as many rows as there are logits. New weights are drawn as ``nn.Linear`` draws its own.

    Args:
        chain: The network, in evaluation mode.
        example: One image at least, shape (batch, channels, height, width).
        classes: Number of logits from here on.
        seed: Seed of the new weights.

    Returns:
        Names of the parameters that are new.

    Raises:
        UserError: The logits are not the output of such a layer.
    """
    x = _before_head(chain, example)
    layers, logits = weighted_layers(chain.head, x)
    parameters = dict(chain.head.named_parameters())
    last: list[tuple[str, str | None]] = []
    for layer in reversed(layers):
        if parameters[layer.weight].shape[0] != logits.shape[1]:
            break
        last.append((layer.weight, layer.bias))
    random = torch.Generator().manual_seed(seed)
    # Of several layers of as many rows the last alone, unless the new logits need the ones before it too.
    for count in range(1, len(last) + 1):
        new = {
            name: _drawn(parameters[name], parameters[weight], classes, random)
            for weight, bias in last[:count]
            for name in (weight, bias)
            if name is not None
        }
        _set(chain.head, new)
        if _gives(chain.head, x, classes):
            return [f"head.{name}" for name in new]
        _set(chain.head, {name: parameters[name] for name in new})
    raise UserError(
        f"no classifier found: the {logits.shape[1]} logits are not what the last linear layer of the head returns"
    )


def adapt_channels(chain: Chain, example: Tensor, channels: int) -> str:
    """Let a chain read images of another number of channels, in place, as timm does.

    For one channel the weights of the first convolution are summed over its channels; for others they are repeated,
    and scaled so that activations keep their size.

    Args:
        chain: The network, in evaluation mode.
        example: Images as it reads them now, shape (batch, channels, height, width).
        channels: Of the images to come.

    Returns:
        The name of the parameter that changed.

    Raises:
        UserError: It does not begin with a convolution over all channels.
    """
    layers, _ = weighted_layers(chain.stem, example)
    parameters, before = dict(chain.stem.named_parameters()), example.shape[1]
    weight = layers[0].weight if layers else None
    if weight is None or parameters[weight].dim() != 4 or parameters[weight].shape[1] != before:
        raise UserError(
            f"images of {channels} channels do not fit: no convolution over the {before} channels was found"
        )
    old = parameters[weight].detach()
    repeated = old.repeat(1, math.ceil(channels / before), 1, 1)[:, :channels] * (before / channels)
    new = old.sum(1, keepdim=True) if channels == 1 else repeated
    _set(chain.stem, {weight: nn.Parameter(new)})
    return f"stem.{weight}"


def read_by(chain: Chain, images: Tensor, classifier: Sequence[str]) -> Tensor | None:
    """Return what the classifier of a chain reads, shape (batch, features).

    None where the logits are anything else than its weight times that, plus its bias: the mean of two classifiers, or
    of one at every place.

    Args:
        chain: The network, in evaluation mode.
        images: Shape (batch, channels, height, width).
        classifier: Names of its parameters, as :func:`replace_classifier` returns them.
    """
    if len(classifier) != 2:
        return None
    with torch.no_grad():
        layers, logits = weighted_layers(chain.head, run(chain.steps(), chain.stem(images)))
    found = [layer for layer in layers if f"head.{layer.weight}" == classifier[0]]
    return _read(chain.head, found[0], logits) if len(found) == 1 else None


def read_last(head: nn.Module, x: Tensor) -> Tensor | None:
    """Return what the classifier of a head reads, shape (batch, features): its last weighted layer.

    None where the logits are anything else than its weight times that, plus its bias.

    Args:
        head: Of a network, in evaluation mode.
        x: What the head reads.
    """
    layers, logits = weighted_layers(head, x)
    return _read(head, layers[-1], logits) if layers else None


def _read(head: nn.Module, layer: Layer, logits: Tensor) -> Tensor | None:
    """Return what a layer reads, where that is one vector per image, and the logits are what the layer makes of it."""
    weight, read = head.get_parameter(layer.weight).flatten(1), layer.read.flatten(1)
    bias = None if layer.bias is None else head.get_parameter(layer.bias)
    if logits.dim() != 2 or len(read) != len(logits) or weight.shape != (logits.shape[1], read.shape[1]):
        return None
    with torch.no_grad():
        logits_of_it = F.linear(read, weight, bias)
    return read if torch.allclose(logits_of_it, logits, rtol=1e-4, atol=1e-4 * float(logits.abs().max())) else None


def set_classifier(chain: Chain, classifier: Sequence[str], weight: Tensor, bias: Tensor) -> None:
    """Give the classifier of a chain other numbers, in place.

    Args:
        chain: The network.
        classifier: Names of its parameters: weight, bias.
        weight: Shape (classes, features).
        bias: Shape (classes,).
    """
    with torch.no_grad():
        for name, new in zip(classifier, (weight, bias), strict=True):
            chain.get_parameter(name).copy_(new.view(chain.get_parameter(name).shape))


def _before_head(chain: Chain, example: Tensor) -> Tensor:
    """Return what the head reads."""
    kept: list[Tensor] = []
    hook = chain.head.register_forward_pre_hook(lambda module, args: kept.append(args[0]))
    with torch.no_grad():
        chain(example)
    hook.remove()
    return kept[0]


def _drawn(old: Tensor, weight: Tensor, classes: int, random: torch.Generator) -> nn.Parameter:
    """Return a new weight or bias, uniform within 1/√(inputs)."""
    bound = 1 / math.sqrt(weight[0].numel())
    new = torch.empty(classes, *old.shape[1:], dtype=old.dtype).uniform_(-bound, bound, generator=random)
    return nn.Parameter(new.to(old.device))


def _gives(head: nn.Module, x: Tensor, classes: int) -> bool:
    """Return whether a head returns this many logits."""
    try:
        with torch.no_grad():
            return head(x).shape == (len(x), classes)
    except RuntimeError:  # shapes that do not fit
        return False


def _set(module: nn.Module, parameters: dict[str, nn.Parameter]) -> None:
    for name, parameter in parameters.items():
        owner, _, short = name.rpartition(".")
        layer = module.get_submodule(owner)
        setattr(layer, short, parameter)
        if short == "weight" and isinstance(layer, nn.Linear):
            layer.out_features = len(parameter)
        elif short == "weight" and isinstance(layer, nn.Conv2d):
            layer.out_channels, layer.in_channels = len(parameter), parameter.shape[1] * layer.groups
