"""How many classes and channels weights are for: where two networks differ that are alike but for that number."""

from collections.abc import Mapping

from torch import Tensor


def size_told(weights: Mapping[str, Tensor], one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> int | None:
    """Return the number that weights have where two networks differ, such as of 10 and of 11 classes.

    No tensor is known by its name or its place: a network may have many matrices, and any of them last.

    Args:
        weights: Tensors by the network's own names.
        one: The state of the first network; one on the meta device is enough.
        other: That of the second.

    Returns:
        The number; None where the weights have no such tensor.
    """
    for name, tensor in one.items():
        axes = [axis for axis, (a, b) in enumerate(zip(tensor.shape, other[name].shape, strict=True)) if a != b]
        if axes and name in weights and weights[name].dim() > axes[0]:
            return weights[name].shape[axes[0]]
    return None
