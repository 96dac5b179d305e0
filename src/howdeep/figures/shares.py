"""What several charts of paths need."""

import math

from howdeep.dissect.paths import Paths


def gradient_shares(found: Paths) -> dict[int, float]:
    """Return each length's share in percent: exact where it was computed, else paths × mean of the sampled ones."""
    if found.gradient_norm is not None:
        values = dict(zip(found.lengths, found.gradient_norm, strict=True))
    else:
        logs = {one.length: one.log10_product for one in found.sampled if one.log10_product is not None}
        top = max(logs.values(), default=0.0)
        values = {length: 10 ** (log - top) for length, log in logs.items()}
    whole = math.fsum(values.values()) or 1.0
    return {length: 100 * value / whole for length, value in values.items()}
