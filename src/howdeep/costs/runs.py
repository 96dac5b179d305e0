"""How long one image takes in the networks of several run folders, by turns on this machine."""

from collections.abc import Sequence

import torch

from howdeep.analysis.study import prepared
from howdeep.deploying.latency import latencies
from howdeep.runs.folder import Run
from howdeep.util.errors import UserError

SECONDS = 5.0
"""Of timing all of them; five passes of each at least."""


def latencies_of(runs: Sequence[Run]) -> list[float | None]:
    """Return the latency of one image in milliseconds of each run: one thread, norms folded, fp32, on the host.

    All are in memory at once, and to open one takes about as long as its checkpoint takes to read.

    Args:
        runs: Run folders.

    Returns:
        One number each; None where there are no weights, or images have another shape than those of the first.
    """
    chains, places, shapes = [], [], []
    for place, run in enumerate(runs):
        data = run.record["data"]
        shapes.append((data["channels"], data["height"], data["width"]))
        if shapes[place] != shapes[0]:
            continue
        image = torch.zeros(1, *shapes[place]).contiguous(memory_format=torch.channels_last)
        try:
            chain = run.chain(lambda line: None)
        except UserError:
            continue
        chains.append(prepared(chain, image, precision="fp32", device=image.device).chain)
        places.append(place)
    times = latencies(chains, image, seconds=SECONDS) if chains else []
    found = dict(zip(places, (one.median_ms for one in times), strict=True))
    return [found.get(place) for place in range(len(runs))]
