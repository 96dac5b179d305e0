"""What the outputs of published ImageNet weights are called, and by which other names data call the same classes."""

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field


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
