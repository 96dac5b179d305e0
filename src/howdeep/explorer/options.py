"""How a network is explored, and where the page is served."""

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro.conf

from howdeep.util.errors import UserError
from howdeep.util.options import Threads, check_threads, require_at_least


@dataclass(frozen=True, kw_only=True)
class ExploreOptions:
    """How a network is explored, and where the page is served."""

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
    """Arithmetic of the activations; auto times both and takes the fastest correct one."""
    threads: Threads = "auto"
    """Threads of the host; auto takes the number in which passes are fastest here."""
    skip_broken: bool = False
    """Leave broken images out instead of stopping."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""

    def __post_init__(self) -> None:
        check_threads(self.threads)
        require_at_least(1, self, "images")
        if self.host in ("", "0.0.0.0", "::"):
            raise UserError(f"host {self.host!r} is not allowed: name the one address at which browsers will ask")
        if not 0 <= self.port <= 65535:
            raise UserError(f"port {self.port} is not allowed: 0 to 65535, 0 takes a free one")
