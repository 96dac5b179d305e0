"""Networks of elsewhere: weights of a file, read into a network of the catalogue or into a run folder."""

from dataclasses import asdict, replace
from pathlib import Path

import torch

from howdeep.chain import Chain
from howdeep.convert import Match, by_our_names, differing_size, match, read_weights, report_copies
from howdeep.convert.libraries import is_library_name, library_network
from howdeep.data.normalization import normalization_of
from howdeep.networks import Spec, build, skeleton, spec_of
from howdeep.networks.counting import Description, describe_chain
from howdeep.networks.residual import Block, Shortcut
from howdeep.runs import checkpoints
from howdeep.runs import folder as runs
from howdeep.runs.options import ImportOptions
from howdeep.survival import Survival
from howdeep.util.files import folder_locked
from howdeep.util.options import refuse_without_use
from howdeep.util.text import Report


def read_network(
    name: str,
    weights: Path,
    *,
    key: str | None = None,
    block: Block | None = None,
    shortcut: Shortcut | None = None,
    report: Report,
) -> tuple[Spec, Chain, Match]:
    """Return a network of the catalogue with the weights of a file, which says how many classes and channels it has.

    Args:
        name: Name in the catalogue.
        weights: The file.
        key: Which of several weights in it.
        block: Basic or bottleneck; None is the literature's.
        shortcut: A, B or C; None is the literature's.
        report: Receives a line for whatever was taken where something else could have been.

    Raises:
        UserError: The file is not usable or not of this network.
    """
    usual = spec_of(name, block=block, shortcut=shortcut)
    tensors = read_weights(weights, key, report)
    own = skeleton(usual)
    placed = by_our_names(tensors, own)

    def told(size: str) -> int:
        number = getattr(usual, size)
        other = skeleton(replace(usual, **{size: number + 1}))
        return differing_size(placed, own.state_dict(), other.state_dict()) or number

    spec = replace(usual, classes=told("classes"), channels=told("channels"))
    chain = build(spec)
    matched = match(tensors, chain)
    report_copies(weights, matched.again, report)
    chain.load_state_dict(matched.state)
    return spec, chain, matched


def describe_library(name: str, *, size: int | None, classes: int | None = None) -> Description:
    """Return what a network of torchvision or timm consists of, as the chain that it is.

    Raises:
        UserError: There is no such network, or nothing to cut at was found in it.
    """
    network = library_network(name, fresh=True, size=size, classes=classes)
    shape = (3, network.size, network.size)
    return describe_chain(network.chain(), shape, name=name, family=name.partition(":")[0])


def usual_size(spec: Spec) -> tuple[int, int]:
    """Return the height and width of the images that the literature shows a network."""
    return (224, 224) if spec.large else (32, 32)


def import_weights(options: ImportOptions, *, report: Report = lambda line: None) -> Match:
    """Read foreign weights into a new run folder.

    Args:
        options: Which weights, and where to.
        report: Receives a line for whatever was taken where something else could have been.

    Returns:
        What was kept, renamed, left and missing.

    Raises:
        UserError: The file is not usable or not of this network, or ``out`` is not empty or being written.
    """
    file, network, size, key = options.file, options.network, options.size, options.key
    if is_library_name(network):
        refuse_without_use(options, ("block", "shortcut"), f"for {network}: its library says how it is built")
        library = library_network(network, weights=file, size=size, key=key, report=report)
        published, chain, matched, channels = library.published, library.chain(), library.match, 3
        report(f"{network}: images are prepared as for its published weights: {published.preparation}")
        own: Spec | dict = library.record
        constants = normalization_of(published.mean, published.std)
        height, width, crop = library.size, library.size, published.crop and asdict(published.crop)
    else:
        own, chain, matched = read_network(
            network, file, key=key, block=options.block, shortcut=options.shortcut, report=report
        )
        (height, width), channels, crop = (size, size) if size else usual_size(own), own.channels, None
        constants = None
    assert matched is not None, "there is a file"
    data = {"source": str(file), "name": file.name, "classes": None, "channels": channels}
    data |= {"height": height, "width": width, "resize": "crop", "notes": []} | ({"crop": crop} if crop else {})
    record = runs.record_of(
        spec=own,
        survival=Survival(),
        data=data,
        normalization=normalization_of(options.mean, options.std, channels) or constants,
        where=torch.device("cpu"),
        more={"imported": str(file)} | ({"key": key} if key else {}),
    )
    with folder_locked(options.out):
        run = runs.create(options.out, record)
        checkpoints.save(run.checkpoints, 0, tensors={"weights": chain.state_dict()}, state={})
    return matched
