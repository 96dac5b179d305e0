"""Which trained network a command works on, and which foreign weights become one."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro.conf

from howdeep.util.options import (
    Block,
    Device,
    Key,
    OptionalFile,
    OptionalFloats,
    OptionalInt,
    OptionalName,
    Shortcut,
    convert,
)
from howdeep.util.text import Report

if TYPE_CHECKING:
    from howdeep.runs.target import Target


@dataclass(frozen=True, kw_only=True)
class TargetOptions:
    """A trained network, and how its images are prepared."""

    target: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TARGET")]
    """A run folder; or, with --weights, a name of the catalogue, timm:NAME, torchvision:NAME or hf-model:owner/name;
    the last three may have --pretrained instead."""
    weights: OptionalFile = None
    """A file of weights, where the target is a name."""
    key: Key = None
    pretrained: bool = False
    """Published weights of the network of a library, which downloads them."""
    size: OptionalInt = None
    """Side in pixels of the images of a library's network; without it the published one."""
    mean: OptionalFloats = None
    """Mean per channel, of pixels in [0, 1]; without it the run's own, or the library's."""
    std: OptionalFloats = None
    """Standard deviation per channel; without it the run's own, or the library's."""
    device: Device = "auto"

    def __post_init__(self) -> None:
        convert(self, Path, "weights")

    def open(self, report: Report) -> "Target":
        """Return the trained network."""
        from howdeep.runs.target import open_target

        return open_target(self, report=report)

    def arguments(self) -> tuple[str, ...]:
        """Return what says which network this is, as it is typed."""
        words = [self.target]
        for name in ("weights", "key", "size", "mean", "std"):
            if (value := getattr(self, name)) is not None:
                words += [f"--{name}", *map(str, value if isinstance(value, tuple) else (value,))]
        return (*words, *["--pretrained"] * self.pretrained, "--device", self.device)


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """Foreign weights, and the run folder that they become."""

    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE")]
    """A checkpoint of PyTorch or safetensors, whatever it is called."""
    network: str
    """The network that they belong to, such as cifar_resnet56, torchvision:resnet50 or timm:convnext_tiny."""
    out: Path
    """The run folder."""
    key: OptionalName = None
    """Which weights of the file, where it holds several, such as state_dict_ema."""
    block: Block = None
    """Kind of unit; without it the literature's."""
    shortcut: Shortcut = None
    """A zero padding, B projection where the shape changes, C everywhere; without it the literature's."""
    mean: OptionalFloats = None
    """Mean per channel that was subtracted in training, of pixels in [0, 1]."""
    std: OptionalFloats = None
    """Standard deviation per channel that pixels were divided by."""
    size: OptionalInt = None
    """Side of the images in pixels; without it the library's, 32, or 224 for the ImageNet names."""

    def __post_init__(self) -> None:
        convert(self, Path, "file", "out")
