"""Which units go, and how the rest is repaired, without labels: every way on the same images, before any fine-tuning.

At most 500 training images choose and repair; errors are those of images that took no part. What is not in the package
is here: the choice by labels (cross-entropy), and feature mimicking (MiR, Wang et al. 2022), which trains all weights
for some steps with frozen norm statistics.
"""

import argparse
import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from common import SHARED, Row, report, row
from howdeep.analysis.routes import baseline, follow, places
from howdeep.analysis.routes import without as around
from howdeep.analysis.study import SplitBatches
from howdeep.chain import Chain, run
from howdeep.cutting.frontier import WAYS, Frontier
from howdeep.cutting.images import Images
from howdeep.cutting.records import Removal
from howdeep.data import Batch, open_data
from howdeep.data.sampling import sample, shuffled
from howdeep.deploying.latency import latencies
from howdeep.networks.counting import describe_chain
from howdeep.runs.options import TargetOptions
from howdeep.runs.target import open_target
from howdeep.util.intervals import of_change
from subjects import CIFAR10, public

CHOOSING, REPAIRING, TESTING = 128, 500, 2000
"""Images on which units are chosen, those on which the rest is repaired, and those of the errors."""
SHARE = 0.7
"""Of the multiply-adds, which stay at most."""
STEPS, RATE, BATCH = 100, 1e-3, 50
"""Of mimicking: AdamW, cosine."""
PIXELS = 128
"""Side of the photos."""


@dataclass(frozen=True)
class Subject:
    """A network, the images without labels, and those of the errors."""

    name: str
    chain: Chain
    images: Tensor
    labels: Tensor
    testing: Tensor
    answers: Tensor
    """Right answers of the images of the errors; of a network whose classes the images do not show, its own."""


def host(split, normalization) -> tuple[Tensor, Tensor]:
    batches = list(SplitBatches(split, normalization, 100, torch.device("cpu")))
    images = torch.cat([batch.images for batch in batches]).contiguous(memory_format=torch.channels_last)
    return images, torch.cat([batch.labels for batch in batches])


def cifar() -> Subject:
    target, data = public("cifar_resnet56"), open_data(str(CIFAR10))
    training = host(shuffled(sample(data.split("train"), REPAIRING, 0), 0), target.normalization)
    chain = target.chain.to(memory_format=torch.channels_last)
    return Subject(target.name, chain, *training, *host(sample(data.split("test"), TESTING, 0), target.normalization))


def photos() -> Subject:
    """Return lite0 with photos of waste and of hands, whose right answers are what the uncut network says."""
    weights = SHARED / "weights" / "timm" / "tf_efficientnet_lite0.safetensors"
    name = "timm:tf_efficientnet_lite0"
    target = open_target(TargetOptions(target=name, weights=weights, size=PIXELS), report=print)
    chain = target.chain.to(memory_format=torch.channels_last)
    images, testing = [], []
    for data in ("trash", "sign"):
        opened = open_data(SHARED / "data" / data, size=PIXELS, crop=target.crop, channels=3)
        images.append(host(sample(opened.split("train"), REPAIRING // 2, 0), target.normalization)[0])
        testing.append(host(opened.split("test"), target.normalization)[0])
    mixed = torch.cat(images)[torch.randperm(REPAIRING, generator=torch.Generator().manual_seed(0))]
    both, answers = torch.cat(testing), [answered(chain, one) for one in (mixed, torch.cat(testing))]
    return Subject(name, chain, mixed, answers[0], both, answers[1])


def answered(chain: Chain, images: Tensor) -> Tensor:
    with torch.inference_mode():
        return torch.cat([chain(batch).argmax(1) for batch in images.split(100)])


def frontier_of(subject: Subject) -> Frontier:
    """Return what the package does with these images."""
    pairs = zip(subject.images.split(64), subject.labels.split(64), strict=True)
    batches = [Batch(images, labels, len(labels)) for images, labels in pairs]
    return Frontier(subject.chain, Images(batches[: CHOOSING // 64], batches[:1], batches))


def by_labels(subject: Subject, chain: Chain, out: int) -> tuple[int, ...]:
    """Return the units of a greedy choice by cross-entropy, measured anew after every unit."""
    place, way, gone = places(chain), baseline(chain), tuple[int, ...]()
    pairs = list(zip(subject.images[:CHOOSING].split(64), subject.labels[:CHOOSING].split(64), strict=True))
    for _ in range(out):
        sets = [(*gone, one) for one in range(len(chain)) if one not in gone and chain.units[one].merge.removable]
        routes = [around(way, [place[index] for index in one]) for one in sets]
        sums = [0.0] * len(sets)
        with torch.inference_mode():
            for images, labels in pairs:
                for number, logits in follow(chain, images, routes):
                    sums[number] += float(F.cross_entropy(logits, labels, reduction="sum"))
        gone = sets[min(range(len(sets)), key=sums.__getitem__)]
    return gone


def mimicking(subject: Subject, cut: Chain) -> Chain:
    """Return a network all of whose weights learned to give the features of the whole one; norms as in evaluation."""
    student, stream = copy.deepcopy(cut), torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(student.parameters(), RATE, weight_decay=0.0)
    pace = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 + 0.5 * math.cos(math.pi * step / STEPS))
    for _ in range(STEPS):
        images = subject.images[torch.randperm(len(subject.images), generator=stream)[:BATCH]]
        flip = torch.rand(len(images), 1, 1, 1, generator=stream) < 0.5
        images = torch.where(flip, images.flip(3), images)
        with torch.no_grad():
            whole = run(subject.chain.steps(), subject.chain.stem(images))
        loss = F.mse_loss(run(student.steps(), student.stem(images)), whole) / whole.square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        pace.step()
    return student


def wrong(subject: Subject, chain: Chain) -> Tensor:
    return answered(chain, subject.testing) != subject.answers


def compared(subject: Subject, *, mimicked: bool) -> tuple[list[Row], dict[str, object]]:
    """Return the errors of both choices and of every repair at the same number of units, and whether the bar is met."""
    frontier = frontier_of(subject)
    folded, shape = frontier.whole.chain, tuple(subject.images.shape[1:])

    def macs(removals: Sequence[Removal]) -> int:
        return describe_chain(frontier.cut(removals), shape, name="", family="").macs

    order: list[Removal] = []
    removals = frontier.removals()
    while macs(order) > SHARE * macs([]):
        order.append(next(removals))
    by_features = tuple(removal.index - 1 for removal in order)
    before, table, wrongs = wrong(subject, folded), [], {}
    for choice, gone in (("features", by_features), ("labels", by_labels(subject, folded, len(order)))):
        named = [Removal(index=index + 1, name="", distance=None) for index in gone]
        made = {way: frontier.made(way, named) for way in WAYS}
        if mimicked and choice == "features":
            made["mimicking"] = mimicking(subject, made["recalibrated"])
        for way, network in made.items():
            wrongs[choice, way] = wrong(subject, frontier.folded(network))
        errors = {way: round(100 * float(wrongs[choice, way].double().mean()), 2) for way in made}
        table.append({"chosen by": choice, "units out": " ".join(str(index + 1) for index in sorted(gone)), **errors})
        print(subject.name, table[-1], flush=True)
    # What a cut was: chosen by labels, recalibrated where that helps.
    today = min((wrongs["labels", way] for way in ("cut", "recalibrated")), key=lambda one: int(one.sum()))
    new = wrongs["features", "refitted"]
    newly, right = int((new & ~today).sum()), int((today & ~new).sum())
    change, (low, high) = 100 * (newly - right) / len(new), of_change(newly, right, len(new))
    times = latencies([folded, frontier.folded(frontier.cut(order))], subject.testing[:1])
    latency = 100 * times[1].median_ms / times[0].median_ms
    note = f"95 %: {low:+.2f} to {high:+.2f}; from {100 * float(today.double().mean()):.2f} %"
    what = f"{subject.name}, {len(order)} units out, "
    rows = [
        row(f"{what}chosen by features and refitted: error", change, "≤ −3", change <= -3, unit="points", note=note),
        row(f"{what}latency", latency, "shown beside", True, unit="%", note="of the uncut network's"),
    ]
    whole = 100 * float(before.double().mean())
    return rows, {"uncut": whole, "out": len(order), "images": len(new), "latency_percent": latency, "table": table}


SUBJECTS = {"cifar": cifar, "photos": photos}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("subjects", nargs="*", choices=[*SUBJECTS, []])
    for name in parser.parse_args().subjects or SUBJECTS:
        subject = SUBJECTS[name]()
        # The photos are so many pixels that their steps would take as long as all the rest ten times.
        rows, details = compared(subject, mimicked=name == "cifar")
        report(f"joint_{name}", rows, **details)


if __name__ == "__main__":
    main()
