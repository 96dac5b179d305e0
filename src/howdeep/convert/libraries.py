"""Networks of libraries by name: how one is made, what its published weights expect, and weights of a file in it.

``torchvision:resnet50``, ``timm:seresnet18``; ``hf-model:owner/name`` is an image classifier of ``transformers``, from
the hub or from a folder that ``save_pretrained`` wrote.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from howdeep.convert.foreign_names import own_names
from howdeep.convert.matching import Match, differing_size, fill
from howdeep.convert.reading import read_weights
from howdeep.convert.split import Unravelled, unravel
from howdeep.convert.trace import quiet
from howdeep.data.view import Crop
from howdeep.util.errors import UserError, reason, unknown

USUAL_SIZE = 224


@dataclass(frozen=True)
class ClassNames:
    """Classes in the order of the logits."""

    shown: tuple[str, ...]
    """One name each, no two alike."""
    positions: Mapping[str, int] = field(default_factory=dict)
    """By every name that means one of them: torchvision's, timm's, a WordNet id as n01440764; in small letters too."""

    def order(self, names: tuple[str, ...]) -> list[int] | None:
        """Return the positions of classes by their names, all different; None where one is unknown."""
        found = [self.positions.get(name, self.positions.get(name.lower(), -1)) for name in names]
        return found if min(found, default=-1) >= 0 and len(set(found)) == len(found) else None


@dataclass(frozen=True)
class Published:
    """What a library says of one of its networks: how it is made, and what its published weights expect."""

    make: Callable[[int, bool], nn.Module]
    """The network for a number of classes, with its published weights or initial ones."""
    classes: int
    size: int
    """Side of its images in pixels: as asked for, or the usual one."""
    usual_size: int
    """Side of the images of the published weights."""
    mean: tuple[float, ...] | None
    """Subtracted from pixels in [0, 1]; None where the library has no weights."""
    std: tuple[float, ...] | None
    """What they are divided by."""
    crop: Crop | None
    names: Callable[[], ClassNames | None]

    @property
    def preparation(self) -> str:
        """How images are prepared, in a few words."""
        crop = self.crop and f"the middle {100 * self.crop.share:.3g} % ({self.crop.interpolation})"
        mean, std = (one and " ".join(f"{value:g}" for value in one) for one in (self.mean, self.std))
        said = [f"{self.size}×{self.size} pixels", crop, mean and f"mean {mean}", std and f"std {std}"]
        return ", ".join(filter(None, said))


def published_as(name: str, size: int | None = None) -> Published:
    """Return what a library says of one of its networks.

    Args:
        name: Library and name, such as ``timm:resnet50``.
        size: Side of the images; None is the usual one.

    Raises:
        UserError: There is no such network, or the library is not installed.
    """
    library, _, network = name.partition(":")
    try:
        return LIBRARIES[library](network, size)
    except ImportError:
        raise not_installed(name) from None


def not_installed(name: str) -> UserError:
    """Return the error for a network whose library is missing."""
    library = name.partition(":")[0]
    return UserError(f"{name} needs {library}: pip install {PACKAGES.get(library, library)}")


def _torchvision(network: str, size: int | None) -> Published:
    from torchvision import models

    if network not in models.list_models(module=models):
        raise unknown("network of torchvision", network, models.list_models(module=models))
    published = models.get_model_weights(network)["DEFAULT"]
    example, categories = published.transforms(), tuple(published.meta["categories"])
    usual = example.crop_size[0]
    sized = {}
    if network.startswith("vit_") and size is not None:  # such as vit_b_16
        refuse_patches(f"torchvision:{network}", size, int(network.rpartition("_")[2]))
        sized = {"image_size": size}

    def make(classes: int, pretrained: bool) -> nn.Module:
        return models.get_model(network, weights=published if pretrained else None, num_classes=classes, **sized)

    return Published(
        make,
        classes=len(categories),
        size=size or usual,
        usual_size=usual,
        mean=tuple(example.mean),
        std=tuple(example.std),
        crop=Crop(usual / example.resize_size[0], example.interpolation.value),
        names=lambda: torchvision_names(categories),
    )


def _timm(network: str, size: int | None) -> Published:
    import timm
    from timm.data.imagenet_info import infer_imagenet_subset

    if not timm.is_model(network):
        raise unknown("network of timm", network, timm.list_models())
    cfg = timm.get_pretrained_cfg(network)
    published = cfg.to_dict() if cfg is not None else {}
    usual = published.get("input_size", (3, USUAL_SIZE))[1]
    side = size or usual
    sized = {"img_size": side} if published.get("fixed_input_size") else {}

    def make(classes: int, pretrained: bool) -> nn.Module:
        return timm.create_model(network, pretrained=pretrained, num_classes=classes, **sized)  # type: ignore[arg-type]

    subset = infer_imagenet_subset(cfg) if cfg is not None else None
    methods, told = {method.name.lower() for method in Image.Resampling}, published.get("interpolation")
    return Published(
        make,
        classes=published.get("num_classes") or 1000,
        size=side,
        usual_size=usual,
        mean=published.get("mean"),
        std=published.get("std"),
        crop=Crop(published["crop_pct"], told if told in methods else "bilinear") if "crop_pct" in published else None,
        names=lambda: timm_names(subset) if subset else None,
    )


def _hugging_face(network: str, size: int | None) -> Published:
    transformers, auto = import_module("transformers"), import_module("transformers.models.auto.modeling_auto")
    entry = {"_raise_exceptions_for_missing_entries": False}
    try:
        with quiet():
            config = transformers.AutoConfig.from_pretrained(network)
            file = transformers.utils.cached_file(network, "preprocessor_config.json", **entry)
    except (OSError, ValueError) as error:
        raise UserError(f"hf-model:{network} could not be loaded: {reason(error)}") from None
    if type(config) not in auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING:
        raise UserError(f"hf-model:{network} is not an image classifier of transformers: it is {config.model_type}")
    told = json.loads(Path(file).read_bytes()) if file else {}
    resized = _side(told.get("size")) or getattr(config, "image_size", None) or USUAL_SIZE
    usual = (_side(told.get("crop_size")) if told.get("do_center_crop") else None) or resized
    sized = {"image_size": size} if size and hasattr(config, "image_size") else {}
    refuse_patches(f"hf-model:{network}", size or usual, getattr(config, "patch_size", 1) if sized else 1)
    mean, std = (told.get("image_mean"), told.get("image_std")) if told.get("do_normalize", True) else ((0.0,), (1.0,))
    method = Image.Resampling(told.get("resample", Image.Resampling.BILINEAR)).name.lower()
    names = tuple(config.id2label[number] for number in range(config.num_labels))
    positions = {name.lower(): place for place, name in enumerate(names)}

    def make(classes: int, pretrained: bool) -> nn.Module:
        kind = transformers.AutoModelForImageClassification
        with quiet():
            asked = transformers.AutoConfig.from_pretrained(network, num_labels=classes, **sized)
            return kind.from_pretrained(network, config=asked) if pretrained else kind.from_config(asked)

    return Published(
        make,
        classes=config.num_labels,
        size=size or usual,
        usual_size=usual,
        mean=None if mean is None else tuple(mean),
        std=None if std is None else tuple(std),
        crop=Crop(told.get("crop_pct") or usual / resized, method) if told else None,
        names=lambda: None if names[0] == "LABEL_0" else ClassNames(names, positions),
    )


def _side(size: int | Mapping[str, int] | None) -> int | None:
    """Return the side that a preparation of Hugging Face names, in pixels."""
    return next(iter(size.values()), None) if isinstance(size, Mapping) else size


LIBRARIES = {"torchvision": _torchvision, "timm": _timm, "hf-model": _hugging_face}
PACKAGES = {"hf-model": "'howdeep[hf]'"}
"""What to install for a library that is not there, where it is called otherwise."""


def refuse_patches(name: str, size: int, side: int) -> None:
    """Refuse images whose size is no multiple of the side of a network's patches."""
    if size % side:
        fits = size // side * side
        nearest = f"{fits} or {fits + side}" if fits else f"{side}"
        raise UserError(f"--size {size} is not possible for {name}: its patches are of {side} pixels; {nearest} is")


def torchvision_names(categories: tuple[str, ...]) -> ClassNames:
    """Return the names of the 1,000 classes of torchvision's weights, with timm's where that is installed."""
    own = {name: place for place, name in enumerate(categories)}
    return ClassNames(categories, _positions("imagenet-1k", categories) | own)


def timm_names(subset: str) -> ClassNames:
    """Return the names of the classes of a part of ImageNet, such as ``imagenet-1k``, by timm."""
    from timm.data.imagenet_info import ImageNetInfo

    if subset == "imagenet-1k":
        from torchvision.models import ResNet18_Weights

        return torchvision_names(tuple(ResNet18_Weights.DEFAULT.meta["categories"]))
    info = ImageNetInfo(subset)
    told = [info.index_to_description(place) for place in range(info.num_classes())]
    ids, times = [info.index_to_label_name(place) for place in range(info.num_classes())], Counter(told)
    shown = tuple(name if times[name] == 1 else f"{name} ({own})" for name, own in zip(told, ids, strict=True))
    return ClassNames(shown, _positions(subset, shown))


def _positions(subset: str, shown: tuple[str, ...]) -> dict[str, int]:
    """Return names in small letters, timm's among them where it is installed; −1 where one means several classes."""
    positions: dict[str, int] = {}
    for place, name in enumerate(shown):
        positions[name.lower()] = -1 if name.lower() in positions else place
    with suppress(ImportError):
        from timm.data.imagenet_info import ImageNetInfo

        info = ImageNetInfo(subset)
        for place in range(info.num_classes()):
            told, number = info.index_to_description(place).lower(), info.index_to_label_name(place)
            for name in {told, told.partition(",")[0], number}:
                positions[name] = place if positions.get(name, place) == place else -1
    return positions


@dataclass(frozen=True)
class LibraryNetwork:
    """A network of a library, made."""

    name: str
    """With its library, as the user typed it."""
    model: nn.Module
    """In evaluation mode."""
    classes: int
    """Number of logits."""
    published: Published
    """What the library says of it; its own size."""
    match: Match | None = None
    """What became of the tensors of a file; None where there was none."""

    @property
    def size(self) -> int:
        """Side of the images in pixels."""
        return self.published.size

    @property
    def record(self) -> dict:
        """What ``run.json`` says of it, from which it can be built again."""
        return {"library": self.name, "classes": self.classes, "size": self.size}

    @property
    def names(self) -> ClassNames | None:
        """What its outputs mean, where they are as many as those of the published weights and the library knows."""
        return self.published.names() if self.classes == self.published.classes else None

    def chain(self) -> Unravelled:
        """Return it as a chain.

        Raises:
            UserError: It cannot be one, or cannot read images of this size.
        """
        try:
            return unravel(self.model, torch.zeros(2, 3, self.size, self.size))
        except UserError as error:
            if self.size == self.published.usual_size:
                raise
            usual = f"{self.published.usual_size}×{self.published.usual_size}"
            raise UserError(
                f"--size {self.size} is not possible for {self.name}, whose images are of {usual}: {error}"
            ) from None


def is_library_name(name: str) -> bool:
    """Return whether a name is that of a library's network."""
    return name.partition(":")[0] in LIBRARIES and ":" in name


def library_network(
    name: str,
    *,
    weights: Path | None = None,
    pretrained: bool = False,
    fresh: bool = False,
    size: int | None = None,
    classes: int | None = None,
    key: str | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> LibraryNetwork:
    """Return a network of a library.

    Args:
        name: Library and name, such as ``timm:resnet50``.
        weights: A file of weights; it says how many classes there are.
        pretrained: Take the published weights, which the library downloads.
        fresh: Take initial weights.
        size: Side of the images; None is what the published weights were trained on, or 224.
        classes: Number of classes of an initial network; None is that of the published weights.
        key: Which of several weights in the file.
        report: Receives a line for whatever of the file was left.

    Raises:
        UserError: There is no such network or library, the weights are not its own, or there are none.
    """
    if pretrained + (weights is not None) + fresh != 1:
        raise UserError(f"{name} needs weights: give either --weights FILE or --pretrained")
    tensors = None if weights is None else read_weights(weights, key, report)
    published = published_as(name, size)
    try:
        in_file = None if tensors is None else _classes_of(published, tensors)
        classes = classes or in_file or published.classes
        model = published.make(classes, pretrained)
    except ImportError:
        raise not_installed(name) from None
    except (OSError, RuntimeError) as error:
        raise UserError(f"{name} could not be loaded: {reason(error)}") from None
    patches = getattr(getattr(model, "patch_embed", None), "patch_size", None)
    refuse_patches(name, published.size, patches[0] if isinstance(patches, tuple) else 1)
    matched = None
    if tensors is not None:
        other = published.size != published.usual_size
        hint = f" (--size {published.size}; published weights are for {published.usual_size})" if other else ""
        matched = fill(name, model, tensors, f"{weights}{hint}", report)
    return LibraryNetwork(name, model.eval(), classes, published, matched)


def _classes_of(published: Published, tensors: Mapping[str, Tensor]) -> int | None:
    """Return how many classes weights are for; None where they lack the tensors that say so."""
    one, other = (_shapes(published.make, classes) for classes in (published.classes, published.classes + 1))
    inside = own_names(tensors, lambda name: name if name in one else None).names
    return differing_size({short: tensors[name] for name, short in inside.items()}, one, other)


def _shapes(make: Callable[[int, bool], nn.Module], classes: int) -> Mapping[str, Tensor]:
    """Return the state of an initial network without its values, where it can be made without them."""
    try:
        with torch.device("meta"):
            return make(classes, False).state_dict()
    except (NotImplementedError, RuntimeError):  # it computes widths from values, as torchvision's regnets do
        return make(classes, False).state_dict()
