"""Networks of libraries by name, with initial, published or given weights.

``torchvision:resnet50``, ``timm:seresnet18``; ``hf-model:owner/name`` is an image classifier of ``transformers``, from
the hub or from a folder that ``save_pretrained`` wrote.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from howdeep.convert.foreign_names import own_names
from howdeep.convert.matching import Match, differing_size, fill
from howdeep.convert.published import LIBRARIES, ClassNames, Published, not_installed, published_as, refuse_patches
from howdeep.convert.reading import read_weights
from howdeep.convert.split import Unravelled, unravel
from howdeep.util.errors import UserError, reason


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
        raise UserError(f"{name} needs weights: give --weights FILE or --pretrained, one of them")
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
