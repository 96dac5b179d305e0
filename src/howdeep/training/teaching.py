"""A trained network teaches another one: the classes as it sees them count beside the labels.

loss = ½ CE(labels, p) + ½ T² KL(q_T ‖ p_T)          p_T = softmax(logits / T), q_T the teacher's

Knowledge distillation (Hinton, Vinyals and Dean 2015, arXiv 1503.02531, section 2).
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from howdeep.chain import Chain
from howdeep.runtime.modes import evaluating
from howdeep.transform.folding import fold_norms
from howdeep.util.errors import UserError

TEMPERATURE = 2.0
SHARE = 0.5
"""Of the loss, what the teacher's classes count."""


@dataclass(frozen=True)
class Teacher:
    """A network in evaluation mode, which is shown what the other one is."""

    chain: Chain
    """It reads the same images, in the same classes."""

    @classmethod
    def of(cls, chain: Chain) -> "Teacher":
        """Return what a network teaches; the network stays as it is."""
        with evaluating(chain):
            return cls(fold_norms(chain).requires_grad_(False))

    @torch.no_grad()
    def check(self, images: Tensor, outputs: int) -> None:
        """Refuse a network that is shown images of other sizes or channels than it reads, or that has other classes.

        Args:
            images: Some, shape (batch, channels, height, width).
            outputs: Classes of the network that is trained.

        Raises:
            UserError: It is such a network.
        """
        try:
            own = self.seen(images[:1]).shape[1]
        except RuntimeError:
            raise UserError(
                f"teacher is not allowed: it cannot read images of shape {tuple(images.shape[1:])}"
            ) from None
        if own != outputs:
            raise UserError(f"teacher is not allowed: it has {own} classes, and the chain {outputs}")

    @torch.no_grad()
    def seen(self, images: Tensor) -> Tensor:
        """Return the logits of images, in float32."""
        return self.chain(images).float()


def taught(own: Tensor, logits: Tensor, seen: Tensor, count: int) -> Tensor:
    """Return the share of a part of a mini-batch in the mean loss.

    Args:
        own: That of the loss by the labels.
        logits: Of the network that is trained, shape (images of the part, classes), in float32.
        seen: The teacher's.
        count: Images of the whole mini-batch.
    """
    student, teacher = (F.log_softmax(each / TEMPERATURE, 1) for each in (logits, seen))
    apart = F.kl_div(student, teacher, reduction="sum", log_target=True) / count
    return (1 - SHARE) * own + SHARE * TEMPERATURE**2 * apart
