"""Open a trained network for the page, and serve it until an interrupt."""

import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType

import uvicorn

from howdeep.analysis.study import prepared
from howdeep.data import Dataset
from howdeep.data.decoding import quiet_pillow
from howdeep.explorer.costs import costs_of
from howdeep.explorer.engine import LIMIT, ActivationCache, Engine
from howdeep.explorer.guard import Guard
from howdeep.explorer.images import MAX_BYTES, Uploads, draw_sample
from howdeep.explorer.jobs import Jobs, Saving
from howdeep.explorer.options import ExploreOptions
from howdeep.explorer.server import Page, Summary, create_app, like_of
from howdeep.runs.target import Target, data_of, note_doubt, open_data_for
from howdeep.runtime import device as devices
from howdeep.runtime.precision import Arithmetic, place, true_fp32
from howdeep.runtime.timing import threads_of
from howdeep.util.errors import UserError

LOOPBACK = ("127.0.0.1", "localhost")
LAST_WORDS = 2
"""Seconds that requests under way have when the server ends."""


def open_pages(
    networks: Sequence[tuple[Target, Sequence[str]]],
    options: ExploreOptions,
    *,
    report: Callable[[str], None] = lambda line: None,
) -> list[Page]:
    """Return everything that the server answers from, for every network.

    Args:
        networks: Each with the options that say which one it is, as on the command line.
        options: How; without data those that the first network's run was trained on.
        report: Receives one line for everything in which the images differ from those of a network's run.

    Raises:
        UserError: The data does not fit a network, has no such split, or it is not known how pixels are normalised.
    """
    data, limit = data_of(networks[0][0], options.data), LIMIT // len(networks)
    flags = ("--skip-broken",) if options.skip_broken else ()
    pages: list[Page] = []
    for target, arguments in networks:
        dataset = open_data_for(target, data, skip_broken=options.skip_broken, splits=[options.split], report=report)
        note_doubt(target, options.split, report)
        engine = open_engine(target, dataset, options, limit=limit)
        with threads_of(engine.threads):
            assert engine.before  # asked now: a broken network is refused here, and the first change finds its maps
        saving = Saving(target=target, data=data, arguments=(*arguments, *flags))
        summary = Summary(engine=engine, data=dataset.name, split=options.split, like=like_of(engine), saving=saving)
        uploads = Uploads(target, dataset.height, dataset.width, devices.pick(options.device))
        jobs = pages[0].jobs if pages else Jobs(threads=engine.threads)  # one computes at a time, of whichever network
        pages.append(Page(engine, summary, uploads, saving, jobs))
    return pages


def open_engine(target: Target, dataset: Dataset, options: ExploreOptions, *, limit: int = LIMIT) -> Engine:
    """Return a network with its sample, folded and timed, that keeps so many bytes of activations at most."""
    device = devices.pick(options.device)
    sample = draw_sample(target, dataset, split=options.split, images=options.images, seed=options.seed, device=device)
    chain = place(target.chain, Arithmetic("fp32", "channels_last"), device)
    first = sample.batches[0].images
    fast = prepared(chain, first, precision=options.precision, device=device, threads=options.threads)
    autocast = Arithmetic(fast.precision, "channels_last").autocast(device)
    cache = ActivationCache(fast.chain, [batch.images for batch in sample.batches], autocast=autocast, limit=limit)
    return Engine(
        target=target,
        chain=chain,
        cache=cache,
        sample=sample,
        classes=dataset.classes,
        precision=fast.precision,
        threads=fast.threads,
        costs=costs_of(chain, fast.chain, first[:1]),
    )


def listen(host: str, port: int) -> socket.socket:
    """Return what a server listens with; port 0 takes a free one.

    Raises:
        UserError: Nothing can listen there.
    """
    try:
        return socket.create_server((host, port), backlog=64)
    except OSError as error:
        raise UserError(f"nothing can listen on {host}:{port}: {error.strerror or error}") from None


def serve(pages: Sequence[Page], listener: socket.socket, *, host: str, report: Callable[[str], None]) -> None:
    """Answer requests until an interrupt.

    Args:
        pages: What is served, of one network or of two side by side.
        listener: Of :func:`listen`.
        host: The name by which it was asked for.
        report: Receives the address of the page once it is there.
    """
    guard = Guard(hosts=frozenset({*LOOPBACK, host.lower()}), upload_bytes=MAX_BYTES)
    address = f"http://{host}:{listener.getsockname()[1]}/"
    app = create_app(pages, guard, started=lambda: report(f"{address}  (Ctrl-C ends it)"))
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, timeout_graceful_shutdown=LAST_WORDS, server_header=False
    )
    # Uvicorn ends in good order on an interrupt and then passes it on: it is how a server is meant to end.
    with quiet_pillow(), true_fp32(), suppress(KeyboardInterrupt):
        _Server(config, pages[0].jobs).run(sockets=[listener])


class _Server(uvicorn.Server):
    """A server that ends its jobs when it is told to end, instead of waiting for them."""

    def __init__(self, config: uvicorn.Config, jobs: Jobs) -> None:
        super().__init__(config)
        self.jobs = jobs

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.jobs.stop()
        super().handle_exit(sig, frame)
