"""The interactive page of one trained network."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro.conf

from howdeep.commands.options import TargetOptions
from howdeep.errors import UserError
from howdeep.output import remark
from howdeep.threads import Threads


@dataclass(frozen=True, kw_only=True)
class Explore(TargetOptions):
    """Serve a page on which units are taken out of a trained network, and what happens is seen at once."""

    data: Annotated[str | None, tyro.conf.arg(metavar="DATA", help_behavior_hint="(default: the run's own)")] = None
    """digits, an image folder, a Parquet file or folder, or hf:owner/name."""
    port: int = 0
    """Where to listen; 0 takes a free port."""
    host: str = "127.0.0.1"
    """Address to listen on; at any but this one, everybody who reaches it can use the page."""
    split: str = "val"
    """train, val or test: errors are counted on a sample of it."""
    images: int = 256
    """Images of the sample."""
    seed: int = 0
    """Seed by which it is drawn."""
    precision: Literal["fp32", "bf16", "auto"] = "auto"
    """Arithmetic of the maps; auto times both and takes the fastest correct one."""
    threads: Threads = "auto"
    """Threads of the host; auto takes the number in which passes are fastest here."""
    skip_broken: bool = False
    """Leave broken images out instead of stopping."""

    def run(self) -> int:
        """Open the network, print the address, answer until an interrupt."""
        from howdeep.explorer.serve import ExploreOptions, open_page, serve

        target = self.open()
        options = ExploreOptions(
            data=self.data or self._own_data(), arguments=self.arguments(), split=self.split, images=self.images,
            seed=self.seed, precision=self.precision, threads=self.threads, device=self.device,
            skip_broken=self.skip_broken,
        )  # fmt: skip
        serve(open_page(target, options, say=remark), host=self.host, port=self.port, say=remark)
        return 0

    def _own_data(self) -> str:
        """Return the data that a run was trained on."""
        from howdeep.runs import is_run, open_run

        place = Path(self.target)
        if not is_run(place) or "imported" in (record := open_run(place).record):
            raise UserError(f"{self.target} does not say what it was trained on: give --data")
        return record["data"]["source"]

    def arguments(self) -> tuple[str, ...]:
        """Return what says which network this is, as it is typed."""
        options = {"weights": self.weights, "size": self.size, "mean": self.mean, "std": self.std}
        given = [(name, value) for name, value in options.items() if value is not None]
        words = [
            [f"--{name}", *(map(str, value) if isinstance(value, tuple) else [str(value)])] for name, value in given
        ]
        flags = ["--pretrained"] * self.pretrained + ["--skip-broken"] * self.skip_broken
        return (self.target, *(word for part in words for word in part), *flags, "--device", self.device)
