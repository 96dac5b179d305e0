"""A trained network handed to other programs."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro.conf

from howdeep.commands.options import Data, Flat, TargetOptions, Whole
from howdeep.output import Output, remark

Format = Annotated[
    Literal["onnx", "torch"] | None, tyro.conf.arg(metavar="{onnx,torch}", help_behavior_hint="(default: by ending)")
]


@dataclass(frozen=True, kw_only=True)
class Export(TargetOptions):
    """Write a network as ONNX or .pt2, refused unless it agrees on real images."""

    data: Data
    """digits, an image folder, a Parquet file or folder, or hf:owner/name: images to compare on."""
    out: Annotated[Path, tyro.conf.arg(metavar="FILE")]
    """The file: .onnx, or .pt2 for torch.export."""
    format: Format = None
    """What kind of file."""
    opset: Whole = None
    """Version of ONNX's operators, 18 to 23; without it torch's choice."""
    split: str = "test"
    """train, val or test."""
    limit: int = 256
    """Compare on N images, a stratified sample; at least 256, or all where there are fewer."""
    seed: int = 0
    """Seed of that sample."""
    skip_broken: bool = False
    """Leave broken images out instead of stopping."""
    device: Literal["cpu"] = "cpu"
    """Files are compared and timed on the CPU."""
    output: Flat[Output] = field(default_factory=Output)

    def run(self) -> int:
        """Export, compare, time and print."""
        from howdeep.export import ExportOptions, export_target
        from howdeep.reporting import export_table

        self.output.check(self.out)
        options = ExportOptions(
            out=self.out, data=self.data, format=self.format, opset=self.opset, split=self.split, limit=self.limit,
            seed=self.seed,
            skip_broken=self.skip_broken,
        )  # fmt: skip
        found, record = export_target(self.open(), options, say=remark)
        self.output.finish(record, export_table(found))
        return 0
