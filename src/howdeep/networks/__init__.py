"""Networks of the literature, built exactly, at any depth."""

import torch

from howdeep.chain import Chain, GateRule
from howdeep.networks.catalogue import LITERATURE, Spec, spec_from_json, spec_of, spec_to_json
from howdeep.networks.dense import DenseSpec, dense
from howdeep.networks.parts import initialise
from howdeep.networks.residual import ResidualSpec, residual

__all__ = [
    "LITERATURE",
    "DenseSpec",
    "ResidualSpec",
    "Spec",
    "build",
    "skeleton",
    "spec_from_json",
    "spec_of",
    "spec_to_json",
]


def build(network: str | Spec, rule: GateRule | None = None, *, seed: int = 0) -> Chain:
    """Return a network, He-initialised, on the host.

    Args:
        network: A name of the catalogue or a spec (see :func:`spec_of` for classes, channels and options).
        rule: Where the gates of a call come from when none are given, such as a ``Survival``.
        seed: Seed of the initial weights.

    Raises:
        UserError: The name is unknown.
    """
    spec = spec_of(network) if isinstance(network, str) else network
    chain = skeleton(spec, rule).to_empty(device="cpu")
    initialise(chain, seed=seed, zero_branches=spec.zero_init)
    return chain


def skeleton(spec: Spec, rule: GateRule | None = None) -> Chain:
    """Return the chain of a spec on the meta device: shapes without weights, in milliseconds at any depth."""
    with torch.device("meta"):
        return dense(spec, rule) if isinstance(spec, DenseSpec) else residual(spec, rule)
