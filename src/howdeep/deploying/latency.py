"""How long forward passes take where a network will run."""

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from howdeep.chain import Chain
from howdeep.deploying.formats import RUNNERS, onnx_content, portable_program
from howdeep.runtime.deployment import HERE, Deployment, require_runtime
from howdeep.runtime.precision import readable_tf32
from howdeep.runtime.timing import RUNS, SECONDS, Timing, by_turns, threads_of
from howdeep.util.errors import UserError, reason


@dataclass(frozen=True)
class Written:
    """A network as a runtime takes it."""

    chain: Chain
    """The network."""
    content: bytes | None
    """The same as ONNX; None where torch runs it."""


def latencies(
    chains: Sequence[Chain | Written],
    image: Tensor,
    where: Deployment = HERE,
    *,
    runs: int = RUNS,
    seconds: float = SECONDS,
) -> list[Timing]:
    """Return how long one image takes in each network, by turns, without gradients; of a batch, its share.

    Args:
        chains: Networks in evaluation mode, as they are run: folded, on the device of the image. What is timed several
            times is written for the runtime once, by :func:`written`.
        image: One, shape (1, channels, height, width), laid out as the networks want it.
        where: What runs them, in how many threads, and how many such images at a time.
        runs: Timed runs of each.
        seconds: As in :func:`howdeep.runtime.timing.by_turns`.

    Raises:
        UserError: The runtime is not installed, or cannot run one of them.
    """
    require_runtime(where.runtime)
    networks = [one if isinstance(one, Written) else written(one, image, where.runtime) for one in chains]
    images = torch.cat([image] * where.batch)
    with threads_of(where.threads), torch.inference_mode():
        passes = [started(network, images, where) for network in networks]
        times = by_turns(passes, runs=runs, seconds=seconds, device=images.device)
    return [replace(one.per(where.batch), where=where) for one in times]


def written(chain: Chain, image: Tensor, runtime: str) -> Written:
    """Return a network as a runtime takes it, for batches of any size; for all but torch as ``howdeep export`` does.

    That takes 1.5 s and 0.1 s for every unit.

    Args:
        chain: The network.
        image: As in :func:`latencies`.
        runtime: What shall run it.

    Raises:
        UserError: The runtime is not installed, or the network cannot be written.
    """
    require_runtime(runtime)
    if runtime == "torch":
        return Written(chain, None)
    with readable_tf32(), torch.inference_mode():
        program = portable_program(copy.deepcopy(chain).cpu(), image.shape[1:])
        return Written(chain, onnx_content(program, {}, None).data)


def started(network: Written, images: Tensor, where: Deployment) -> Callable[[], object]:
    """Return one forward pass of a network, ready to run: on the device of the images, or as ONNX on the host.

    Raises:
        UserError: The runtime cannot run it.
    """
    if network.content is None:
        return lambda: network.chain(images)
    given = images.cpu().contiguous()
    try:
        runner = RUNNERS[where.runtime](network.content, where.threads)
        runner(given)
    except Exception as error:  # each runtime has errors of its own
        raise UserError(f"{where.runtime} cannot run this network: {reason(error)}") from error
    return lambda: runner(given)


def starting_seconds(chain: Chain, image: Tensor, where: Deployment) -> float:
    """Return how long it takes until a network is ready to run somewhere."""
    before = time.perf_counter()
    started(written(chain, image, where.runtime), image, where)
    return time.perf_counter() - before
