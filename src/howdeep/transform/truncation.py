"""A network's first units under a classifier of their own.

Cut point k, 0 … L, is the place where unit k + 1 begins: behind the stem, or behind unit k and the layers without a
gate that follow it. The network up to there reads images as the whole one does; what its classifier reads are the
activations there, averaged over space.
"""

from torch import nn

from howdeep.chain import Chain, Unit
from howdeep.transform.pooling import Pooled
from howdeep.transform.removal import without
from howdeep.util.errors import UserError


def cut_points(chain: Chain) -> list[int]:
    """Return how many modules of the body lie before each cut point, of 0 … L units."""
    units = [place for place, module in enumerate(chain.body) if isinstance(module, Unit)]
    return [*units, len(chain.body)]


def truncated(chain: Chain, units: int, classifier: nn.Linear | None) -> Chain:
    """Return a copy of a chain that ends behind its first units: logits = classifier(pooled(activations there)).

    The expectation of a random rule is folded into the branches, as :func:`howdeep.transform.removal.without` does.

    Args:
        chain: The network; it stays as it is.
        units: How many units stay, from 0 to all.
        classifier: What reads the averages; it becomes a part of the copy. None keeps the head of the chain, which
            must read activations of that shape.

    Raises:
        UserError: The network has fewer units.
    """
    require_point(chain, units)
    rest = without(chain, ())
    rest.body = nn.ModuleList(list(rest.body)[: cut_points(rest)[units]])
    if classifier is not None:
        rest.head = nn.Sequential(Pooled(), classifier)
    return rest.train(chain.training)


def averages(chain: Chain) -> int | None:
    """Return how many averages the classifier reads of a network that :func:`truncated` returned; None of others."""
    match list(chain.head.children()):
        case Pooled(), nn.Linear() as classifier:
            return classifier.in_features
    return None


def require_point(chain: Chain, units: int) -> None:
    """Refuse a cut point that a network does not have.

    Raises:
        UserError: There is none behind so many units.
    """
    count = len(chain)
    if not 0 <= units <= count:
        nearest = min(max(units, 0), count)
        raise UserError(f"first {units} is not allowed: the network has {count} units; the nearest is {nearest}")
