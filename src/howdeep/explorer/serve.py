"""Open a trained network for the page, and serve it until an interrupt."""

import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import FrameType

import uvicorn

from howdeep.analysis.study import prepared
from howdeep.data import Dataset
from howdeep.data.decoding import quiet_pillow
from howdeep.explorer.cache import Prefixes
from howdeep.explorer.engine import Engine
from howdeep.explorer.images import MAX_BYTES, Uploads, draw_sample
from howdeep.explorer.jobs import Jobs
from howdeep.explorer.pieces import costs_of
from howdeep.explorer.saving import Saving
from howdeep.explorer.server import Guard, Page, create_app
from howdeep.explorer.summary import Facts, like_of
from howdeep.runs.target import Target, open_data_for
from howdeep.runtime import device as devices
from howdeep.runtime.precision import Arithmetic, place, true_fp32
from howdeep.runtime.threads import Threads, check_threads
from howdeep.runtime.timing import threads_of
from howdeep.util.errors import UserError

LOOPBACK = ("127.0.0.1", "localhost")
LAST_WORDS = 2
"""Seconds that requests under way have when the server ends."""


@dataclass(frozen=True, kw_only=True)
class ExploreOptions:
    """How a network is explored."""

    data: str
    """What DATA is on the command line."""
    arguments: tuple[str, ...]
    """Options that say which network it is, as on the command line."""
    split: str = "val"
    """Of which the sample is drawn."""
    images: int = 256
    """Images of the sample."""
    seed: int = 0
    """By which it is drawn."""
    precision: str = "auto"
    """Of the maps: ``fp32``, ``bf16`` or ``auto``, the fastest correct one."""
    threads: Threads = "auto"
    """Threads of the host; ``auto`` takes the number in which passes are fastest."""
    device: str = "auto"
    """Where."""
    skip_broken: bool = False
    """Leave broken images out."""

    def __post_init__(self) -> None:
        check_threads(self.threads)
        if self.images < 1:
            raise UserError(f"images {self.images} is not allowed: it must be at least 1")


def open_page(target: Target, options: ExploreOptions, *, say: Callable[[str], None] = lambda line: None) -> Page:
    """Return everything that the server answers from.

    Args:
        target: The network.
        options: How.
        say: Receives one line for everything in which the images differ from those of the network's run.

    Raises:
        UserError: The data does not fit the network, has no such split, or it is not known how pixels are normalised.
    """
    where = devices.pick(options.device)
    dataset = open_data_for(target, options.data, skip_broken=options.skip_broken, splits=[options.split], say=say)
    engine = open_engine(target, dataset, options)
    with threads_of(engine.threads):
        assert engine.before  # asked now, so that a broken network is refused here and the first change finds its maps
    saving = Saving(target=target, data=options.data, arguments=options.arguments)
    facts = Facts(
        engine=engine, data=dataset.name, split=options.split, like=like_of(engine), unsaved=saving.impossible
    )
    uploads = Uploads(target, dataset.height, dataset.width, where)
    return Page(engine, facts, uploads, saving, Jobs(threads=engine.threads))


def open_engine(target: Target, dataset: Dataset, options: ExploreOptions) -> Engine:
    """Return a network with its sample, folded and timed."""
    where = devices.pick(options.device)
    sample = draw_sample(
        target, dataset, split=options.split, images=options.images, seed=options.seed, device=where
    )  # fmt: skip
    chain = place(target.chain, Arithmetic("fp32", "channels_last"), where)
    first = sample.batches[0].images
    found = prepared(chain, first, precision=options.precision, device=where, threads=options.threads)
    autocast = Arithmetic(found.precision, "channels_last").autocast(where)
    prefixes = Prefixes(found.chain, [batch.images for batch in sample.batches], autocast=autocast)
    return Engine(
        target=target, chain=chain, prefixes=prefixes, sample=sample, classes=dataset.classes,
        precision=found.precision, threads=found.threads, costs=costs_of(chain, found.chain, first[:1]),
    )  # fmt: skip


def serve(page: Page, *, host: str, port: int, say: Callable[[str], None]) -> None:
    """Answer requests until an interrupt.

    Args:
        page: What is served.
        host: Address to listen on.
        port: The same; 0 takes a free one.
        say: Receives the address of the page once it is there.

    Raises:
        UserError: Nothing can listen there.
    """
    listener = _listener(host, port)
    guard = Guard(hosts=frozenset({*LOOPBACK, host.lower()}), upload_bytes=MAX_BYTES)
    address = f"http://{host}:{listener.getsockname()[1]}/"
    app = create_app(page, guard, started=lambda: say(f"{address}  (Ctrl-C ends it)"))
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, timeout_graceful_shutdown=LAST_WORDS, server_header=False
    )  # fmt: skip
    # Uvicorn ends in good order on an interrupt and then passes it on: it is how a server is meant to end.
    with quiet_pillow(), true_fp32(), suppress(KeyboardInterrupt):
        _Server(config, page.jobs).run(sockets=[listener])


class _Server(uvicorn.Server):
    """A server that ends its works when it is told to end, instead of waiting for them."""

    def __init__(self, config: uvicorn.Config, jobs: Jobs) -> None:
        super().__init__(config)
        self.jobs = jobs

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.jobs.stop()
        super().handle_exit(sig, frame)


def _listener(host: str, port: int) -> socket.socket:
    if host in ("", "0.0.0.0", "::"):
        raise UserError(f"host {host!r} is not allowed: name the one address at which browsers will ask")
    if not 0 <= port <= 65535:
        raise UserError(f"port {port} is not allowed: 0 to 65535, 0 takes a free one")
    try:
        return socket.create_server((host, port), backlog=64)
    except OSError as error:
        raise UserError(f"nothing can listen on {host}:{port}: {error.strerror or error}") from None
