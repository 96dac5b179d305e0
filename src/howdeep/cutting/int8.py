"""The uncut network and its cut with weights and activations of 8 bits: further candidates for one budget."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from howdeep.analysis.effects import BaselineBatch
from howdeep.chain import Chain
from howdeep.cutting.frontier import Frontier, effect_between, first_images
from howdeep.cutting.records import InInt8
from howdeep.deploying.formats import RUNNERS
from howdeep.deploying.latency import Written, latencies, written
from howdeep.deploying.quantizing import CALIBRATION, quantised
from howdeep.runtime.deployment import Deployment, lacking_for
from howdeep.util.errors import UserError


def in_int8(
    frontier: Frontier, smaller: Chain, before: Sequence[BaselineBatch], where: Deployment
) -> tuple[InInt8, InInt8]:
    """Return what the uncut network and a cut one take and get wrong in int8, as ``howdeep export --int8`` writes them.

    Both are timed by turns with themselves in float32. The ranges of activations are those of the images of the
    statistics, the errors those of the evaluation.

    Args:
        frontier: Of the uncut network, and the images.
        smaller: The network that is kept.
        before: What the uncut network answers in float32.
        where: A runtime of ONNX.

    Raises:
        UserError: What quantises is not installed, or cannot quantise them.
    """
    if lacking := lacking_for("onnxruntime"):
        raise UserError(f"int8 needs {lacking}")
    images = frontier.images
    calibration = [batch.cpu() for batch in first_images((one.images for one in images.statistics), CALIBRATION)]
    one, chains = images.calibration[0].images[:1], (frontier.chain, smaller)
    exact = [written(frontier.folded(chain), one, where.runtime) for chain in chains]
    small = [_quantised(network, calibration) for network in exact]
    times = latencies([*exact, *small], one, where)
    found = []
    for chain, network, in_float32, in_8_bits in zip(chains, small, times[:2], times[2:], strict=True):
        assert network.content is not None
        run = RUNNERS[where.runtime](network.content, torch.get_num_threads())
        logits = [run(batch.images.cpu().contiguous()).to(batch.labels.device) for batch in images.evaluation]
        effect = effect_between(logits, before)
        found.append(InInt8(units=len(chain), in_float32=in_float32, latency=in_8_bits, effect=effect))
    return found[0], found[1]


def _quantised(network: Written, calibration: Sequence[Tensor]) -> Written:
    assert network.content is not None, "a runtime of ONNX was asked for"
    return replace(network, content=quantised(network.content, calibration))
