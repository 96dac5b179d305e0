"""What a network costs up to every place where its features are read, under a classifier of other classes."""

import copy
from collections.abc import Sequence
from itertools import accumulate

from torch import Tensor, nn

from howdeep.analysis.features import Place
from howdeep.chain import Chain
from howdeep.convert.classifier import replace_classifier
from howdeep.deploying.latency import latencies
from howdeep.networks.counting import describe_chain, output_and_macs, sample_of
from howdeep.runtime.deployment import Deployment
from howdeep.runtime.timing import Timing
from howdeep.transform.pooling import Pooled
from howdeep.transform.truncation import cut_points
from howdeep.util.errors import UserError


def sizes_of(chain: Chain, places: Sequence[Place], image: Tensor, classes: int) -> list[tuple[int, int]]:
    """Return multiply-adds per image and parameters up to every place, with a classifier of so many classes.

    Args:
        chain: The network; its norms count as parameters where they are not folded.
        places: Where features are read.
        image: One.
        classes: Of the data.
    """
    network, points = _with_classes(chain, image, classes), cut_points(chain)
    *parts, last = describe_chain(network, tuple(image.shape[1:]), name="", family="").parts
    # Of the stem, and of stem and body up to every module.
    macs, parameters = (
        list(accumulate(numbers)) for numbers in zip(*((p.macs, p.parameters) for p in parts), strict=True)
    )
    head, sizes = copy.deepcopy(network.head).to("meta"), []
    for place in places:
        point, features = points[place.units], place.features
        more = features * classes, (features + 1) * classes
        if place.by_head:
            more = output_and_macs(head, sample_of(parts[point].output))[1], last.parameters
        sizes.append((macs[point] + more[0], parameters[point] + more[1]))
    return sizes


def latencies_of(chain: Chain, places: Sequence[Place], image: Tensor, classes: int, where: Deployment) -> list[Timing]:
    """Return how long one image takes up to every place, by turns.

    Args:
        chain: The network as it is run: folded, on the device of the image.
        places: Where features are read.
        image: One.
        classes: Of the data.
        where: Where passes are timed.
    """
    chains, points = [], cut_points(chain)
    kept = _with_classes(chain, image, classes).head
    for place in places:
        averaged = nn.Sequential(Pooled(), nn.Linear(place.features, classes).to(image))
        # The modules are shared: of large networks there is no room for a copy of every depth.
        body = chain.body[: points[place.units]]
        chains.append(Chain(chain.stem, body, kept if place.by_head else averaged))
    return latencies(chains, image, where)


def _with_classes(chain: Chain, image: Tensor, classes: int) -> Chain:
    """Return a network with a new classifier, if it has one; all before the head is shared."""
    network = Chain(chain.stem, chain.body, copy.deepcopy(chain.head))
    some = next((one for one in chain.parameters()), image)
    try:
        replace_classifier(network, image.to(some), classes, seed=0)
    except UserError:  # its time is the best guess
        return chain
    return network
