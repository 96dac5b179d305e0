"""Latencies are those of the place where a network will run, and say so."""

import torch
from torch import nn

from howdeep.chain import Chain
from howdeep.deploying.latency import latencies
from howdeep.networks import build
from howdeep.runtime.deployment import HERE, Deployment


def test_a_deeper_network_takes_longer_and_quartiles_hold_the_median() -> None:
    chains = [build(name).eval() for name in ("cifar_resnet8", "cifar_resnet110")]
    shallow, deep = latencies(chains, torch.zeros(1, 3, 32, 32), runs=7)
    assert 3 * shallow.median_ms < deep.median_ms
    for timing in (shallow, deep):
        assert timing.quartiles_ms[0] <= timing.median_ms <= timing.quartiles_ms[1]
        assert timing.where == HERE


def test_what_is_timed_runs_in_the_threads_and_on_the_images_that_were_asked_for() -> None:
    seen = []

    class Seen(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(
                (torch.get_num_threads(), tuple(images.shape), images.is_contiguous(memory_format=torch.channels_last))
            )
            return images

    image = torch.zeros(1, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    where = Deployment(threads=2, batch=5)
    (found,) = latencies([Chain(Seen(), [], nn.Identity())], image, where, seconds=0)
    assert set(seen) == {(2, (5, 3, 4, 4), True)}
    assert found.where == where
