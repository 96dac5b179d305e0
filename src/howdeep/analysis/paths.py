"""How much of the gradient the paths of each length carry.

Unravelled, a residual network of n units is 2ⁿ paths (Veit, Wilber and Belongie 2016, arXiv 1605.06431); what their
length is, is defined in :mod:`howdeep.analysis.gradients`.
"""

import bisect
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
from howdeep.util.intervals import student_95
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

    @property
    def half_width(self) -> float | None:
        """Half of the 95 % interval of the mean over the draws; None with one draw."""
        return None if self.standard_error is None else student_95(self.draws) * self.standard_error


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
    """By paths × mean norm of a sampled path, the sum of norms (the literature's); paths may cancel in the other. Means
    between sampled lengths are those of :func:`spread_of`, which says when it is None."""
    sum_check_relative_error: float | None
    """‖Σ_k g_k − g‖ / max(‖g‖, max_k ‖g_k‖), where g is autograd's gradient: the largest over the batches."""
    seed: int
    """Seed of the draws."""

    @property
    def spread(self) -> "Spread | None":
        """How the norms of sampled paths spread over all lengths; None where the samples do not tell that."""
        if self.effective_by_sample is None:
            return None
        return spread_of(dict(zip(self.lengths, map(int, self.path_count), strict=True)), self.sampled)


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
    spread = spread_of(counts, sampled)
    return Paths(
        units=len(chain),
        lengths=tuple(every),
        path_count=tuple(str(counts[length]) for length in every),
        n=n,
        gradient_norm=exact,
        ordinary_norm=math.fsum(one["ordinary"] for one in results) / n,
        sampled=sampled,
        effective=effective(every, exact, counts, total) if exact else None,
        effective_by_sample=spread and effective(spread.lengths, spread.shares, counts, total),
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


@dataclass(frozen=True)
class Spread:
    """How the sum of the norms of all paths spreads over their lengths."""

    lengths: tuple[int, ...]
    """From the shortest to the longest sampled ones that carry a gradient."""
    shares: tuple[float, ...]
    """Of each, of all lengths."""
    off: tuple[float, ...]
    """Half of the 95 % interval of each over the draws, as a share of itself; NaN where one draw tells nothing."""


def spread_of(counts: Mapping[int, int], sampled: Sequence[Sampled]) -> Spread | None:
    """Return paths × mean norm of a path, by length, as shares of its sum over all lengths.

    How many paths there are is known; the mean norm is measured at the sampled lengths. Between them its logarithm is
    interpolated, as every further branch multiplies a norm by about the same. Behind both ends that line goes on: what
    it says there counts for the sum alone.

    Args:
        counts: Length → number of paths, of all lengths.
        sampled: Of some lengths.

    Returns:
        None where no path carries a gradient, where there is only one length of several, or where what lies behind the
        ends may be more than 5 % of the sum.
    """
    found = sorted((one for one in sampled if one.log10_product is not None), key=lambda one: one.length)
    if not found or (len(found) == 1 and len(counts) > 1):
        return None
    silent = {one.length for one in sampled if one.log10_product is None}
    lengths = [one.length for one in found]
    norms = [(one.log10_product or 0.0) - _log10(counts[one.length]) for one in found]
    offs = [_off(one) for one in found]
    lines = {length: _along(lengths, norms, length) for length in counts if length not in silent}
    logs = {length: log + _log10(counts[length]) for length, log in lines.items()}
    # As shares of the largest, which are within the range of floats whatever the depth.
    top = max(logs.values())
    products = {length: 10 ** (log - top) for length, log in logs.items()}
    whole = math.fsum(products.values())
    inside = [length for length in sorted(counts) if lengths[0] <= length <= lengths[-1]]
    shares = tuple(products.get(length, 0.0) / whole for length in inside)
    if math.fsum(shares) < SHARE:
        return None
    return Spread(tuple(inside), shares, tuple(_along(lengths, offs, length) for length in inside))


def _off(one: Sampled) -> float:
    """Return half of the 95 % interval of a mean over draws, as a share of it; below the range of floats not known."""
    return one.half_width / one.mean if one.half_width is not None and one.mean else math.nan


def _along(places: Sequence[int], values: Sequence[float], at: int) -> float:
    """Return the value of the lines through points in rising order, of which the outer ones go on."""
    if len(places) == 1:
        return values[0]
    right = min(max(bisect.bisect_left(places, at), 1), len(places) - 1)
    (first, last), (low, high) = places[right - 1 : right + 1], values[right - 1 : right + 1]
    if at in (first, last):
        return low if at == first else high
    return low + (high - low) * (at - first) / (last - first)


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
