"""Budgets are read as people write them, and refused in one line where they cannot be."""

import pytest

from howdeep.util.errors import UserError
from howdeep.util.options import read_bytes, read_count, read_seconds, read_share_or_count


@pytest.mark.parametrize(
    ("text", "expected"),
    [("30m", 1800), ("2ms", 0.002), ("1.5h", 5400), (" 45 s", 45), ("3min", 180), ("1e3us", 1e-3), (".5s", 0.5)],
)
def test_durations_become_seconds(text: str, expected: float) -> None:
    assert read_seconds("train-budget", text) == pytest.approx(expected)


def test_other_quantities_have_their_own_units() -> None:
    assert read_bytes("memory-budget", "2GB") == 2e9
    assert read_bytes("memory-budget", "512MiB") == 512 * 2**20
    assert read_count("parameters-budget", "1M") == 1e6
    assert read_count("parameters-budget", "269722") == 269722
    assert read_share_or_count("macs", "50%") == (0.5, None)
    assert read_share_or_count("macs", "20M") == (None, 2e7)


@pytest.mark.parametrize("text", ["5 parsecs", "", "ms", "2", "2 GB", "1h30m", "nan", "2ms 3"])
def test_what_is_no_duration_is_refused_with_examples(text: str) -> None:
    with pytest.raises(UserError, match=r"^--latency-budget .* a number and its unit, such as 2ms"):
        read_seconds("latency-budget", text)


@pytest.mark.parametrize("text", ["0s", "-2ms", "1e999s"])
def test_a_budget_is_above_zero_and_finite(text: str) -> None:
    with pytest.raises(UserError, match="must be above 0 and finite"):
        read_seconds("train-budget", text)


def test_a_share_is_at_most_the_whole() -> None:
    with pytest.raises(UserError, match="at most 100%"):
        read_share_or_count("macs", "120%")
