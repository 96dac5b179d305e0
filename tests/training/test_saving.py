"""Which epoch is the best, and when what a run began with stays the best."""

import pytest
import torch
from torch import Tensor

from howdeep.training.saving import beyond_chance


def wrong(*errors: int) -> Tensor:
    return torch.tensor([number in errors for number in range(20)])


@pytest.mark.parametrize(
    ("before", "after", "better"),
    [((1, 2, 3), (), True), ((1,), (), False), ((1, 2), (), True), ((1, 2, 3), (4,), False), ((), (), False)],
)
def test_better_beyond_chance_is_on_paper(before: tuple, after: tuple, better: bool) -> None:
    """b − c > √(b + c): 3 > √3, not 1 > 1, 2 > √2, not 2 > √4, not 0 > 0."""
    assert beyond_chance(wrong(*before), wrong(*after)) is better
    assert not beyond_chance(wrong(*after), wrong(*before))
