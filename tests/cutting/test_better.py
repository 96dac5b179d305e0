"""Which of two networks is kept, from their answers on paper."""

import math

import pytest
import torch

from howdeep import Batch
from howdeep.cutting.frontier import Answers, answers_from, is_better


def answers(wrong: int, loss: float, n: int = 100) -> Answers:
    return Answers(torch.arange(n) < wrong, loss)


@pytest.mark.parametrize(
    ("new", "old", "better"),
    [
        (answers(5, 2.0), answers(30, 0.5), True),  # fewer errors, whatever the loss
        (answers(30, 0.5), answers(5, 2.0), False),
        (answers(5, 0.4), answers(6, 0.5), True),  # one image may be chance: the loss decides
        (answers(5, 0.5), answers(6, 0.4), False),
        (answers(6, 0.4), answers(5, 0.5), False),  # nothing with more errors is kept
        (answers(5, 0.4), answers(5, 0.5), True),
        (answers(5, 0.5), answers(5, 0.5), False),  # without a difference nothing changes
        (answers(5, math.inf), answers(5, 0.5), False),
        (answers(5, 0.5), answers(5, math.inf), True),
    ],
)
def test_fewer_errors_are_better_and_where_they_may_be_chance_a_lower_loss_too(
    new: Answers, old: Answers, better: bool
) -> None:
    assert is_better(new, old) == better


def test_errors_are_compared_image_by_image() -> None:
    """Of 10 against 16 errors of 100 the six are no chance where they are the same images, and may be where not."""
    ten, sixteen = torch.arange(100) < 10, torch.arange(100) < 16
    assert is_better(Answers(ten, 2.0), Answers(sixteen, 1.0))
    assert not is_better(Answers(ten, 2.0), Answers(sixteen.flip(0), 1.0))


def test_scores_that_are_not_finite_are_wrong_answers_of_infinite_loss() -> None:
    batches = [Batch(torch.zeros(2, 1), torch.tensor([0, 1]), 2), Batch(torch.zeros(1, 1), torch.tensor([0]), 1)]
    scores = [torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([[math.inf, 0.0]])]
    found = answers_from(scores, batches)
    assert (found.wrong.tolist(), found.loss) == ([False, True, True], math.inf)
    assert found.error_percent == pytest.approx(100 * 2 / 3)
    right = answers_from([torch.tensor([[0.0, 0.0]])], batches[1:])
    assert (right.wrong.tolist(), right.loss) == ([False], pytest.approx(math.log(2)))
