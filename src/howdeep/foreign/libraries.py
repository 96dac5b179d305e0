"""Networks of torchvision and timm by name: ``torchvision:resnet50``, ``timm:seresnet18``."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from howdeep.errors import UserError, unknown
from howdeep.foreign.reading import read_weights

USUAL_SIZE = 224


@dataclass(frozen=True)
class LibraryNetwork:
    """A network of a library, and how its published weights were trained where those are used."""

    model: nn.Module
    """In evaluation mode."""
    classes: int
    """Number of scores."""
    size: int
    """Side of the images in pixels."""
    mean: tuple[float, ...] | None
    """Subtracted from pixels in [0, 1]; None where only the owner of the weights knows."""
    std: tuple[float, ...] | None
    """What they were divided by."""


def is_library_name(name: str) -> bool:
    """Return whether a name is that of a library's network."""
    return name.partition(":")[0] in LIBRARIES and ":" in name


def library_network(
    name: str, *, weights: Path | None, pretrained: bool, size: int | None, fresh: bool, classes: int | None = None
) -> LibraryNetwork:
    """Return a network of torchvision or timm.

    Args:
        name: Library and name, such as ``timm:resnet50``.
        weights: A file of weights; it says how many classes there are.
        pretrained: Take the published weights, which the library downloads.
        size: Side of the images; None is what the published weights were trained on, or 224.
        fresh: Initial weights do.
        classes: Number of classes of an initial network; None is that of the published weights.

    Raises:
        UserError: There is no such network or library, the weights are not its own, or there are none.
    """
    library, _, network = name.partition(":")
    if pretrained + (weights is not None) + fresh != 1:
        raise UserError(f"{name} needs weights: give --weights FILE or --pretrained, one of them")
    tensors = None if weights is None else read_weights(weights)
    try:
        found = LIBRARIES[library](network, tensors, pretrained, size, classes)
    except ImportError:
        raise UserError(f"{name} needs {library}: pip install {library}") from None
    except (OSError, RuntimeError) as error:
        raise UserError(f"{name} cannot be had: {str(error).splitlines()[0]}") from None
    if tensors is not None:
        _load(name, found.model, tensors)
    found.model.eval()
    return found


def _torchvision(
    network: str, tensors: Mapping[str, Tensor] | None, pretrained: bool, size: int | None, classes: int | None
):
    from torchvision import models

    if network not in models.list_models(module=models):
        raise unknown("network of torchvision", network, models.list_models(module=models))
    published = models.get_model_weights(network)["DEFAULT"]
    example = published.transforms()
    classes = classes or _classes(tensors, None) or len(published.meta["categories"])
    model = models.get_model(network, weights=published if pretrained else None, num_classes=classes)
    mean, std = (tuple(example.mean), tuple(example.std)) if pretrained else (None, None)
    return LibraryNetwork(model, classes, size or example.crop_size[0], mean, std)


def _timm(
    network: str, tensors: Mapping[str, Tensor] | None, pretrained: bool, size: int | None, classes: int | None
) -> LibraryNetwork:
    import timm

    if not timm.is_model(network):
        raise unknown("network of timm", network, timm.list_models())
    cfg = timm.get_pretrained_cfg(network)
    published = cfg.to_dict() if cfg is not None else {}
    head = published.get("classifier")
    told = _classes(tensors, head if isinstance(head, str) else None)
    classes = classes or told or published.get("num_classes") or 1000
    side = size or published.get("input_size", (3, USUAL_SIZE))[1]
    options = {"num_classes": classes} | ({"img_size": side} if published.get("fixed_input_size") else {})
    model = timm.create_model(network, pretrained=pretrained, **options)  # type: ignore[arg-type]
    mean, std = (published["mean"], published["std"]) if pretrained else (None, None)
    return LibraryNetwork(model, classes, side, mean, std)


LIBRARIES = {"torchvision": _torchvision, "timm": _timm}


def _classes(tensors: Mapping[str, Tensor] | None, classifier: str | None) -> int | None:
    """Return how many classes weights are for: the rows of the classifier, which is the last matrix where unnamed."""
    if tensors is None:
        return None
    if f"{classifier}.weight" in tensors:
        return tensors[f"{classifier}.weight"].shape[0]
    matrices = [tensor.shape[0] for tensor in tensors.values() if tensor.dim() == 2]
    return matrices[-1] if matrices else None


def _load(name: str, model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Fill a network.

    Raises:
        UserError: A weight is missing, left over, or of another shape.
    """
    own = model.state_dict()
    # Old files do not count batches.
    missing = [key for key in own if key not in tensors and not key.endswith("num_batches_tracked")]
    left = [key for key in tensors if key not in own]
    shapes = [key for key in own if key in tensors and own[key].shape != tensors[key].shape]
    for what, names in (("are missing", missing), ("belong to no part of it", left), ("have another shape", shapes)):
        if names:
            raise UserError(f"the weights are not those of {name}: {len(names)} {what}, first {names[0]}")
    model.load_state_dict(dict(tensors), strict=False)
