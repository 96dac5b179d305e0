"""How long forward passes take where a network will run."""

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from howdeep.chain import Chain
from howdeep.deploying.formats import RUNNERS, onnx_content, portable_program
from howdeep.runtime.deployment import HERE, Deployment, require_runtime
from howdeep.runtime.precision import readable_tf32
from howdeep.runtime.timing import RUNS, SECONDS, Timing, by_turns, threads_of
from howdeep.util.errors import UserError, reason


def latencies(
    chains: Sequence[Chain], image: Tensor, where: Deployment = HERE, *, runs: int = RUNS, seconds: float = SECONDS
) -> list[Timing]:
    """Return how long one image takes in each network, by turns, without gradients; of a batch, its share.

    Args:
        chains: Networks in evaluation mode, as they are run: folded, on the device of the image.
        image: One, shape (1, channels, height, width), laid out as the networks want it.
        where: What runs them, in how many threads, and how many such images at a time.
        runs: Timed runs of each.
        seconds: As in :func:`howdeep.runtime.timing.by_turns`.

    Raises:
        UserError: The runtime is not installed, or cannot run one of them.
    """
    require_runtime(where.runtime)
    images = torch.cat([image] * where.batch)
    with threads_of(where.threads), torch.inference_mode():
        passes = [started(chain, images, where) for chain in chains]
        times = by_turns(passes, runs=runs, seconds=seconds, device=images.device)
    return [replace(one.per(where.batch), where=where) for one in times]


def started(chain: Chain, images: Tensor, where: Deployment) -> Callable[[], object]:
    """Return one forward pass of a network, ready to run: on the device of the images, or as ONNX on the host.

    To write a network as ``howdeep export`` does, in memory, takes 1.5 s and 0.1 s for every unit.

    Raises:
        UserError: The runtime cannot run it.
    """
    if where.runtime == "torch":
        return lambda: chain(images)
    with readable_tf32():
        content = onnx_content(portable_program(copy.deepcopy(chain).cpu(), images.shape[1:]), {}, None)
    given = images.cpu().contiguous()
    try:
        runner = RUNNERS[where.runtime](content.data, where.threads)
        runner(given)
    except Exception as error:  # each runtime has errors of its own
        raise UserError(f"{where.runtime} cannot run this network: {reason(error)}") from error
    return lambda: runner(given)


def starting_seconds(chain: Chain, image: Tensor, where: Deployment) -> float:
    """Return how long it takes until a network is ready to run somewhere."""
    before = time.perf_counter()
    started(chain, image, where)
    return time.perf_counter() - before
