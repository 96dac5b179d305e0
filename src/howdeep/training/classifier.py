"""A new classifier on given weights begins as the logistic regression on what it reads, not as random numbers."""

from collections.abc import Iterable, Sequence

import torch

from howdeep.analysis.linear import Features, regression, regression_images
from howdeep.chain import Chain
from howdeep.convert.classifier import read_by, set_classifier
from howdeep.data import Batch
from howdeep.runtime.modes import evaluating
from howdeep.runtime.parts import parts_of
from howdeep.runtime.ranks import Ranks
from howdeep.training.feed import Feed
from howdeep.transform.folding import folding_norms
from howdeep.util.intervals import of_share
from howdeep.util.text import Report


def begin_as_regression(chain: Chain, names: Sequence[str], feed: Feed, ranks: Ranks, report: Report) -> dict | None:
    """Give a new classifier the weights of the regression on the training images, as the evaluation prepares them.

    Args:
        chain: The network, on the device and in the layout of the batches.
        names: Parameters of its classifier.
        feed: The images. What decays how much is chosen on those of the validation.
        ranks: The processes that take part.
        report: Receives a line.

    Returns:
        What ``run.json`` says of it; None where the classifier is not one linear layer that returns the logits, which
        is left as it was drawn.
    """
    weight = chain.get_parameter(names[0])
    classes, width = len(weight), weight[0].numel()
    count = regression_images(width, classes)
    with evaluating(chain):
        if read_by(chain, torch.zeros(2, *feed.shape[1:], device=weight.device), names) is None:
            report("classifier: begins as it was drawn, since its logits are not those of one linear layer")
            return None
        validated = feed.validation()
        assert validated is not None, "there are images to choose by"
        train, validation = (_features(chain, names, batches, ranks) for batches in (feed.plain(count), validated))
    # One process computes: others could differ in the last bit.
    linear, sums = ranks.from_first(regression(train, validation, classes) if ranks.first else None)  # type: ignore[misc]
    set_classifier(chain, names, linear.weight, linear.bias)
    low, high = of_share(sums.error_percent, sums.images)
    report(
        f"classifier: begins as logistic regression on {width:,} features of {len(train.labels):,} images; validation"
        f" error {sums.error_percent:.1f} % ({low:.1f} to {high:.1f}), n = {sums.images:,}"
    )
    return {
        "features": width,
        "images": len(train.labels),
        "strength": linear.strength,
        "validation_error_percent": sums.error_percent,
        "validation_loss": sums.mean_loss,
    }


def _features(chain: Chain, names: Sequence[str], batches: Iterable[Batch], ranks: Ranks) -> Features:
    """Return what a classifier reads of some images, of which every process computes its share."""
    quick, own = folding_norms(chain), []
    quick.head = chain.head  # the classifier is found there by its name
    for batch in batches:
        if len(batch.labels):
            read = [read_by(quick, part, names) for part in parts_of(quick, batch.images)]
            own.append((torch.cat([one.cpu() for one in read if one is not None]), batch.labels.cpu()))
    shares = ranks.gathered(own)
    read, labels = zip(*(batch for share in shares for batch in share), strict=True)
    return Features(torch.cat(read), torch.cat(labels))
