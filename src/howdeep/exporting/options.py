"""What is exported into which file, and on which images it is compared."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro.conf

from howdeep.runtime.deployment import lacking_for
from howdeep.util.errors import UserError, unknown
from howdeep.util.options import DATA, OptionalInt, OwnData, SkipBroken, Split, check_split

Format = Annotated[
    Literal["onnx", "torch"] | None, tyro.conf.arg(metavar="{onnx,torch}", help_behavior_hint="(default: by ending)")
]
ENDINGS = {".onnx": "onnx", ".pt2": "torch"}
"""The format of a file by the ending of its name."""
OPSETS = range(18, 24)
"""Versions of ONNX's operators that torch.onnx writes."""
FEWEST = 256
"""Images that must be compared, where the split has as many."""


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What is exported into which file, and on which images it is compared."""

    out: Annotated[Path, tyro.conf.arg(metavar="FILE")]
    """The file: .onnx, or .pt2 for torch.export."""
    data: Annotated[OwnData, tyro.conf.arg(help=f"{DATA[:-1]}: images to compare on.")] = None
    format: Format = None
    """What kind of file."""
    opset: OptionalInt = None
    """Version of ONNX's operators, 18 to 23; without it torch's choice."""
    int8: bool = False
    """Weights and activations of 8 bits (ONNX), by training images; instead of agreement, the error is said."""
    split: Split = "test"
    limit: int = FEWEST
    """Compare on N images, a stratified sample; at least 256, or all where there are fewer."""
    seed: int = 0
    """Seed of that sample."""
    skip_broken: SkipBroken = False
    device: Literal["cpu"] = "cpu"
    """Files are compared and timed on the CPU."""

    def __post_init__(self) -> None:
        chosen = self.chosen
        check_split(self.split)
        if self.limit < FEWEST:
            raise UserError(f"limit {self.limit} is not allowed: at least {FEWEST} images are compared")
        if self.opset is not None and chosen != "onnx":
            raise UserError(f"opset {self.opset} is not allowed for {self.out}: only ONNX has it")
        if self.int8 and chosen != "onnx":
            raise UserError(f"int8 is not allowed for {self.out}: only ONNX has it")
        if self.opset is not None and self.opset not in OPSETS:
            raise UserError(f"opset {self.opset} is not allowed: it must be {OPSETS[0]} to {OPSETS[-1]}")
        if chosen == "onnx" and (lacking := lacking_for("onnxruntime")):
            raise UserError(f"export to ONNX needs {lacking}; or export to .pt2")

    @property
    def chosen(self) -> str:
        """The format, which is that of the file's ending.

        Raises:
            UserError: It is not known, or the ending is another one's.
        """
        if self.format not in (None, *ENDINGS.values()):
            raise unknown("format", str(self.format), ENDINGS.values())
        if self.out.is_dir():
            raise UserError(f"{self.out} is a folder; name a file")
        format = ENDINGS.get(self.out.suffix)
        if format is None or self.format not in (None, format):
            allowed = [ending for ending, name in ENDINGS.items() if self.format in (None, name)]
            raise UserError(f"{self.out} is not allowed: the file's name must end in {' or '.join(allowed)}")
        return format
