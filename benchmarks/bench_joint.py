"""Which units go, and how the rest is repaired: every way on the same images, errors on images that took no part.

At most 500 training images choose and repair. What is not in the package is here: the choice by networks as they are
cut, by labels (cross-entropy) or by what the head reads; and some steps of all weights with frozen norm statistics,
behind the refitting, that learn labels, the answers of the uncut network (Hinton et al. 2015) or its features (MiR,
Wang et al. 2022).
"""

import argparse
import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
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
"""Images on which units are chosen, those on which the rest is repaired, and those of the errors at most."""
SHARE = 0.7
"""Of the multiply-adds, which stay at most."""
STEPS, RATE, BATCH = 60, 1e-3, 50
"""Of learning behind the refitting: AdamW, cosine."""
PIXELS = 96
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


def as_cut(subject: Subject, chain: Chain, out: int, measure: str) -> tuple[int, ...]:
    """Return the units of a greedy choice, measured anew after every unit, by networks that are not repaired."""
    place, way, gone = places(chain), baseline(chain), tuple[int, ...]()
    headless = Chain(chain.stem, chain.body, nn.Identity(), chain.rule).eval()
    pairs = list(zip(subject.images[:CHOOSING].split(64), subject.labels[:CHOOSING].split(64), strict=True))
    for _ in range(out):
        sets = [(*gone, one) for one in range(len(chain)) if one not in gone and chain.units[one].merge.removable]
        routes = [around(way, [place[index] for index in one]) for one in sets]
        sums = [0.0] * len(sets)
        with torch.inference_mode():
            for images, labels in pairs:
                whole = headless(images)
                for number, read in enumerate(follow(headless, images, routes)):
                    logits = chain.head(read)
                    lost = F.cross_entropy(logits, labels) if measure == "labels" else (read - whole).square().mean()
                    sums[number] += float(lost)
        gone = sets[min(range(len(sets)), key=sums.__getitem__)]
    return gone


def learning(subject: Subject, repaired: Chain, what: str) -> Chain:
    """Return a network all of whose weights learned for some steps; norms as in evaluation."""
    student, teacher, stream = copy.deepcopy(repaired), subject.chain, torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(student.parameters(), RATE, weight_decay=0.0)
    pace = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 + 0.5 * math.cos(math.pi * step / STEPS))
    for _ in range(STEPS):
        few = torch.randperm(len(subject.images), generator=stream)[:BATCH]
        flip = torch.rand(BATCH, 1, 1, 1, generator=stream) < 0.5
        images = torch.where(flip, subject.images[few].flip(3), subject.images[few])
        with torch.no_grad():
            whole = run(teacher.steps(), teacher.stem(images))
        read = run(student.steps(), student.stem(images))
        if what == "features":
            loss = F.mse_loss(read, whole) / whole.square().mean()
        else:
            answers = subject.labels[few] if what == "labels" else teacher.head(whole).softmax(1)
            loss = F.cross_entropy(student.head(read), answers)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        pace.step()
    return student


def wrong(subject: Subject, chain: Chain) -> Tensor:
    return answered(chain, subject.testing) != subject.answers


def compared(subject: Subject) -> tuple[list[Row], dict[str, object]]:
    """Return the errors of all choices and repairs at the same number of units, and whether the bar is met."""
    frontier = frontier_of(subject)
    folded, shape = frontier.whole.chain, tuple(subject.images.shape[1:])

    def macs(removals: Sequence[Removal]) -> int:
        return describe_chain(frontier.cut(removals), shape, name="", family="").macs

    order: list[Removal] = []
    removals = frontier.removals()
    while macs(order) > SHARE * macs([]):
        order.append(next(removals))
    chosen = {measure: as_cut(subject, folded, len(order), measure) for measure in ("labels", "features")}
    chosen["refitted"] = tuple(removal.index - 1 for removal in order)
    before, table, wrongs = wrong(subject, folded), [], {}

    def said(name: str, gone: Sequence[int], networks: dict[str, Chain]) -> None:
        for way, network in networks.items():
            wrongs[name, way] = wrong(subject, frontier.folded(network))
        errors = {way: round(100 * float(wrongs[name, way].double().mean()), 2) for way in networks}
        print(subject.name, name, errors, flush=True)
        if gone:
            table.append({"chosen by": name, "units out": " ".join(str(index + 1) for index in sorted(gone)), **errors})

    for name, gone in chosen.items():
        named = [Removal(index=index + 1, name="", distance=None) for index in gone]
        said(name, gone, {way: frontier.made(way, named) for way in WAYS})
    repaired = frontier.made("refitted", order)
    said(
        "and then learned", (), {what: learning(subject, repaired, what) for what in ("labels", "answers", "features")}
    )
    # What a cut was: chosen by labels, recalibrated where that helps.
    first = min((wrongs["labels", way] for way in ("cut", "recalibrated")), key=lambda one: int(one.sum()))
    new = wrongs["refitted", "refitted"]
    times = latencies([folded, frontier.folded(frontier.cut(order))], subject.testing[:1])
    latency = 100 * times[1].median_ms / times[0].median_ms
    what = f"{subject.name}, {len(order)} units out, "
    rows = [_change(f"{what}chosen and refitted by features: error", first, new, "≤ −3", -3)]
    for way, learned in ((way, one) for (name, way), one in wrongs.items() if name == "and then learned"):
        rows.append(_change(f"{what}refitted, and then learned {way}: error", new, learned, "shown beside", math.inf))
    note = "of the uncut network's"
    rows.append(row(f"{what}latency", latency, "shown beside", True, unit="%", note=note))
    whole = 100 * float(before.double().mean())
    return rows, {"uncut": whole, "out": len(order), "images": len(new), "latency_percent": latency, "table": table}


def _change(what: str, old: Tensor, new: Tensor, bar: str, most: float) -> Row:
    newly, right = int((new & ~old).sum()), int((old & ~new).sum())
    change, (low, high) = 100 * (newly - right) / len(new), of_change(newly, right, len(new))
    note = f"95 %: {low:+.2f} to {high:+.2f}; from {100 * float(old.double().mean()):.2f} %"
    return row(what, change, bar, change <= most, unit="points", note=note)


SUBJECTS = {"cifar": cifar, "photos": photos}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("subjects", nargs="*", choices=[*SUBJECTS, []])
    for name in parser.parse_args().subjects or SUBJECTS:
        subject = SUBJECTS[name]()
        rows, details = compared(subject)
        report(f"joint_{name}", rows, **details)


if __name__ == "__main__":
    main()
