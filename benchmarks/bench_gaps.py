"""The first units of a published network against itself with gaps, both frozen, under a classifier of other data.

A search among published networks compares first units only (docs/fit.md): this is what gaps would add to it. They are
chosen greedily by validation error, and the units behind a gap are refitted on training images.
"""

import argparse

import torch
from torch import nn

from common import SHARED
from howdeep.analysis.features import Place, places_of, read_at
from howdeep.analysis.lesion import removable
from howdeep.analysis.linear import Features, regression
from howdeep.analysis.study import SplitBatches, prepared
from howdeep.chain import Chain
from howdeep.data.sampling import sample
from howdeep.deploying.latency import latencies
from howdeep.runs.options import TargetOptions
from howdeep.runs.target import open_data_for, open_target, required_normalization
from howdeep.runtime.timing import Timing
from howdeep.transform.refitting import refitted
from howdeep.transform.truncation import truncated

CPU, FP32 = torch.device("cpu"), torch.autocast("cpu", enabled=False)
NAME = "timm:tf_efficientnet_lite0"
BATCH, REFITTED = 32, 4
"""Images of a batch, and batches on which units behind a gap are refitted."""


class Subject:
    """A network, and images that it need not know."""

    def __init__(self, data: str, size: int, images: int) -> None:
        weights = SHARED / "weights" / "timm" / f"{NAME.partition(':')[2]}.safetensors"
        target = open_target(TargetOptions(target=NAME, weights=weights, size=size), report=lambda line: None)
        dataset = open_data_for(target, str(SHARED / "data" / data), skip_broken=False, same_classes=False)
        self.classes, normalization = len(dataset.classes), required_normalization(target)

        def batches(split: str, count: int | None) -> SplitBatches:
            return SplitBatches(sample(dataset.split(split), count, 0), normalization, BATCH, CPU)

        self.train, self.validation = batches("train", images), batches("val", None)
        self.one = self.train[0].images[:1]
        self.chain = prepared(target.chain, self.train[0].images, precision="fp32", device=CPU).chain

    def read(self, chain: Chain, places: tuple[Place, ...]) -> list[Features]:
        """Return what is read of training and validation images."""
        both = []
        for batches in (self.train, self.validation):
            read = [(read_at(chain, places, batch.images, FP32), batch.labels) for batch in batches]
            both.append(Features(*(torch.cat(column) for column in zip(*read, strict=True))))
        return both

    def error(self, both: list[Features]) -> float:
        """Return the validation error of a classifier, in percent."""
        train, validation = both
        return regression(train, validation, self.classes, exact=False)[1].error_percent

    def prefixes(self) -> list[tuple[str, Chain, float]]:
        """Return the first units, at every depth, with their errors."""
        places, found, start = places_of(self.chain, self.one), [], 0
        train, validation = self.read(self.chain, places)
        for place in places:
            columns = slice(start, start + place.features)
            error = self.error([Features(one.values[:, columns], one.labels) for one in (train, validation)])
            classifier = None if place.by_head else nn.Linear(place.features, self.classes)
            name = f"first {place.units}{' + head' if place.by_head else ''}"
            found.append((name, truncated(self.chain, place.units, classifier), error))
            start += place.features
        return found

    def with_gaps(self, most: int) -> list[tuple[str, Chain, float]]:
        """Return the network without its units one by one, the one whose loss costs the least next."""
        images = [self.train[number].images for number in range(REFITTED)]
        out, found = [], []
        for _ in range(most):
            tried = []
            for unit in removable(self.chain):
                if unit in out:
                    continue
                chain = refitted(self.chain, [*out, unit], images).eval()
                error = self.error(self.read(chain, places_of(chain, self.one)[-1:]))
                tried.append((error, unit, chain))
                print(f"  without {[*out, unit]}: {error:.1f} %", flush=True)
            if not tried:
                break
            error, unit, chain = min(tried, key=lambda one: one[0])
            out.append(unit)
            found.append((f"without {', '.join(str(one + 1) for one in sorted(out))}", chain, error))
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="sign")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--gaps", type=int, default=4)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with torch.no_grad():
        subject = Subject(asked.data, asked.size, asked.images)
        found = [*subject.prefixes(), *subject.with_gaps(asked.gaps)]
        times: list[Timing] = latencies([chain for _, chain, _ in found], subject.one)
    rows = sorted(zip(found, times, strict=True), key=lambda one: one[1].median_ms)
    print(f"{asked.data}, {asked.size} px, {len(subject.train.split)} training, n = {len(subject.validation.split)}")
    print("| network | error % | ms |\n| --- | --- | --- |")
    for (name, _, error), time in rows:
        print(f"| {name} | {error:.1f} | {time.median_ms:.2f} |")


if __name__ == "__main__":
    main()
