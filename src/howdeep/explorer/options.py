"""How a network is explored, and where the page is served."""

from dataclasses import dataclass

from howdeep.util.errors import UserError
from howdeep.util.options import (
    Device,
    InferencePrecision,
    InferenceThreads,
    OptionalName,
    OwnData,
    SkipBroken,
    check_split,
    check_threads,
    require_at_least,
)


@dataclass(frozen=True, kw_only=True)
class ExploreOptions:
    """How a network is explored, and where the page is served."""

    data: OwnData = None
    beside: OptionalName = None
    """The run folder of another network for the same images, such as a cut of this one: both are shown side by side."""
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
    precision: InferencePrecision = "auto"
    threads: InferenceThreads = "auto"
    skip_broken: SkipBroken = False
    device: Device = "auto"

    def __post_init__(self) -> None:
        check_threads(self.threads)
        check_split(self.split)
        require_at_least(1, self, "images")
        if self.host in ("", "0.0.0.0", "::"):
            raise UserError(f"host {self.host!r} is not allowed: name the one address at which browsers will ask")
        if not 0 <= self.port <= 65535:
            raise UserError(f"port {self.port} is not allowed: 0 to 65535, 0 takes a free one")
