"""How much of the gradient the paths of each length carry.

Unravelled, a residual network of n units is 2ⁿ paths (Veit, Wilber and Belongie 2016, arXiv 1605.06431); what their
length is, is defined in :mod:`howdeep.analysis.gradients`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from howdeep.analysis.gradients import (
    Choice,
    ScaledFloat,
    draw_paths,
    exact_gradients,
    forward,
    image_norms,
    ordinary,
    path_counts,
    path_norms,
)
from howdeep.analysis.options import PathsOptions
from howdeep.chain import Chain
from howdeep.data import Batch
from howdeep.data.loaders import Loader, batches_of
from howdeep.runs.resume import Journal
from howdeep.runtime.device import wide
from howdeep.runtime.modes import evaluating
from howdeep.util.errors import UserError
from howdeep.util.records import Shown

SHARE = 0.95
"""Share of the gradient's magnitude that the effective lengths carry."""
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-10}
"""Largest relative difference between the sum over all lengths and autograd's gradient."""
GRADIENT_BYTES = 512 * 2**20
"""What the gradients of sampled paths may take at once."""


class SumError(ArithmeticError):
    """The gradients of all lengths do not add up to the ordinary gradient."""


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """Gradients along single paths of one length."""

    length: int
    """Branches that each path passes."""
    mean: float
    """Mean over the draws of one path's gradient: the Euclidean norm at the input of the first unit, mean over the
    images. 0 where it is below the range of floats, and then ``log10_product`` still is not None."""
    standard_error: float | None
    """Of that mean, from the spread between draws; None with one draw."""
    draws: int
    """Paths that were drawn."""
    log10_product: float | None
    """log₁₀ of mean × number of paths, of any size; None where no gradient passes."""


@dataclass(frozen=True, kw_only=True)
class Effective:
    """The shortest range of lengths that carries 95 % of a magnitude."""

    lengths: tuple[int, ...]
    """Every length of the range."""
    share: float
    """What it carries."""
    path_fraction: float
    """Share of all paths that have one of these lengths."""


@dataclass(frozen=True, kw_only=True)
class Paths(Shown):
    """The paths of a chain, by length."""

    units: int
    """Units of the chain."""
    lengths: tuple[int, ...]
    """Lengths that exist."""
    path_count: tuple[str, ...]
    """Paths of each length: exact integers in decimal."""
    n: int
    """Images."""
    gradient_norm: tuple[float, ...] | None
    """Exact: of each length, mean over images of the Euclidean norm of the sum over all its paths of the image's own
    loss gradient at the input of the first unit. None where it was not asked for."""
    ordinary_norm: float
    """The same of the ordinary gradient, all lengths together."""
    sampled: tuple[Sampled, ...]
    """Single paths, some of each length; empty without draws."""
    effective: Effective | None
    """By ``gradient_norm``, the norm of the sum over paths."""
    effective_by_sample: Effective | None
    """By paths × mean norm of a sampled path, the sum of norms (the literature's); paths may cancel in the other."""
    sum_check_relative_error: float | None
    """‖Σ_k g_k − g‖ / max(‖g‖, max_k ‖g_k‖), where g is autograd's gradient: the largest over the batches."""
    seed: int
    """Seed of the draws."""


def paths(
    chain: Chain,
    loader: Loader,
    options: PathsOptions | None = None,
    *,
    journal: Journal | None = None,
) -> Paths:
    """Split the gradient of a trained network by the length of the paths that it takes.

    Args:
        chain: The network, in float32 or float64; its mode is put back afterwards.
        loader: Labelled images (see :mod:`howdeep.data.loaders`).
        options: Which paths; None draws some of every length and computes the sum over all, checked against autograd.
        journal: Where progress is shown and kept.

    Raises:
        UserError: There is nothing to measure, a length does not exist, or the loader yields something else.
        SumError: The lengths do not add up to the ordinary gradient.
    """
    options, counts, batches = options or PathsOptions(), path_counts(chain), batches_of(chain, loader)
    lengths = sorted(counts) if options.lengths is None else list(options.lengths)
    if not len(batches) or not len(chain):
        raise UserError("there is nothing to measure: the network has no units, or the data no images")
    for length in lengths:
        if length not in counts:
            raise UserError(f"length {length} is not allowed: paths pass {min(counts)} to {max(counts)} branches")
    drawn = draw_paths(chain, lengths, options.draws, options.seed)

    def block(number: int) -> dict:
        return _measured(chain, batches[number], drawn, sorted(counts) if options.exact else None)

    with evaluating(chain):
        results = (journal or Journal()).blocks("paths", len(batches), block)
    return _record(chain, counts, lengths, results, options)


def _measured(chain: Chain, batch: Batch, drawn: Sequence[Choice], lengths: Sequence[int] | None) -> dict:
    """Return the sums of one batch."""
    stream = forward(chain, batch)
    whole = ordinary(stream)
    sums: dict = {"images": len(batch.labels), "ordinary": float(image_norms(whole).sum())}
    if lengths is not None:
        gradients = exact_gradients(stream)
        sums["check"] = checked(gradients, whole)
        zero = torch.zeros_like(whole)
        sums["exact"] = [float(image_norms(gradients.get(length, zero)).sum()) for length in lengths]
    largest = max(x.numel() * x.element_size() for x in stream.inputs)
    chunk = max(1, GRADIENT_BYTES // largest)
    parts = [drawn[start : start + chunk] for start in range(0, len(drawn), chunk)]
    sums["sampled"] = [norm for part in parts for norm in path_norms(stream, part)]
    return sums


def checked(gradients: Mapping[int, Tensor], whole: Tensor) -> float:
    """Return ‖Σ_k g_k − g‖ / max(‖g‖, max_k ‖g_k‖): what rounds are the summands, which may cancel.

    Raises:
        SumError: It is larger than rounding explains.
    """
    summands = torch.stack([wide(gradient) for gradient in gradients.values()])
    size = max(float(one.norm()) for one in (wide(whole), *summands))
    error = float((summands.sum(0) - wide(whole)).norm()) / size if size else 0.0
    if not error <= TOLERANCE[whole.dtype]:
        raise SumError(
            f"the gradients by length add up to the ordinary gradient only within {error:.1e}"
            f" (allowed: {TOLERANCE[whole.dtype]:.0e}); use --precision fp64"
        )
    return error


def _record(
    chain: Chain, counts: dict[int, int], lengths: Sequence[int], results: Sequence[dict], options: PathsOptions
) -> Paths:
    n = sum(one["images"] for one in results)
    exact = None
    if "exact" in results[0]:
        exact = tuple(math.fsum(column) / n for column in zip(*(one["exact"] for one in results), strict=True))
    columns = [_aligned(column) for column in zip(*(one["sampled"] for one in results), strict=True)]
    per_path = [(math.fsum(numbers) / n, exponent) for numbers, exponent in columns]
    draws = options.draws
    groups = [per_path[start : start + draws] for start in range(0, len(per_path), max(1, draws))]
    sampled = tuple(_sampled(length, group, counts[length]) for length, group in zip(lengths, groups, strict=False))
    every, total = sorted(counts), sum(counts.values())
    # As shares of the largest, which are within the range of floats whatever the depth.
    logs = [-math.inf if one.log10_product is None else one.log10_product for one in sampled]
    top = max((log for log in logs if log > -math.inf), default=0.0)
    products = [10 ** (log - top) for log in logs]
    whole = bool(sampled) and [one.length for one in sampled] == every
    return Paths(
        units=len(chain),
        lengths=tuple(every),
        path_count=tuple(str(counts[length]) for length in every),
        n=n,
        gradient_norm=exact,
        ordinary_norm=math.fsum(one["ordinary"] for one in results) / n,
        sampled=sampled,
        effective=effective(every, exact, counts, total) if exact else None,
        effective_by_sample=effective(every, products, counts, total) if whole else None,
        sum_check_relative_error=max(one["check"] for one in results) if exact else None,
        seed=options.seed,
    )


def _aligned(values: Sequence[ScaledFloat]) -> tuple[list[float], int]:
    """Return numbers and the exponent that they share, the largest."""
    top = max((exponent for number, exponent in values if number), default=0)
    return [math.ldexp(number, exponent - top) if number else 0.0 for number, exponent in values], top


def _sampled(length: int, values: Sequence[ScaledFloat], count: int) -> Sampled:
    norms, exponent = _aligned(values)
    mean, draws = math.fsum(norms) / len(norms), len(norms)
    variance = math.fsum((norm - mean) ** 2 for norm in norms) / (draws - 1) if draws > 1 else None
    return Sampled(
        length=length,
        mean=math.ldexp(mean, exponent),
        standard_error=None if variance is None else math.ldexp(math.sqrt(variance / draws), exponent),
        draws=draws,
        log10_product=math.log10(mean) + exponent * math.log10(2) + _log10(count) if mean > 0 else None,
    )


def _log10(count: int) -> float:
    """Return log₁₀ of an integer of any size."""
    shift = max(0, count.bit_length() - 64)
    return math.log10(count >> shift) + shift * math.log10(2)


def effective(
    lengths: Sequence[int], magnitudes: Sequence[float], counts: Mapping[int, int], total: int
) -> Effective | None:
    """Return the shortest range of lengths that carries 95 % of the magnitudes; None where there is no gradient."""
    whole = math.fsum(magnitudes)
    if not whole:
        return None
    best: tuple[int, float, int, int] | None = None
    for first in range(len(lengths)):
        carried = 0.0
        for last in range(first, len(lengths)):
            carried += magnitudes[last]
            if carried >= SHARE * whole:
                candidate = (last - first, -carried, first, last)
                best = min(best, candidate) if best else candidate
                break
    assert best is not None, "all lengths together carry everything"
    chosen = tuple(lengths[best[2] : best[3] + 1])
    return Effective(
        lengths=chosen,
        share=-best[1] / whole,
        path_fraction=sum(counts[length] for length in chosen) / total,
    )
