"""A probe of every depth: its time beside that of the passes alone, and scikit-learn on the same numbers."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from common import SHARED, alternate, howdeep, ratio, report, rounds_option, row, spread
from howdeep.analysis.depths import Probe
from howdeep.analysis.features import places_of, read_at
from howdeep.analysis.linear import Features
from howdeep.analysis.probe import probe
from howdeep.analysis.study import SplitBatches, prepared
from howdeep.chain import Chain
from howdeep.runs.options import TargetOptions
from howdeep.runs.target import Target, open_data_for, open_target, required_normalization
from howdeep.runtime.parts import parts_of
from howdeep.runtime.timing import threads_of

CPU, FP32 = torch.device("cpu"), torch.autocast("cpu", enabled=False)
LITE0, BATCH = "timm:tf_efficientnet_lite0", 100
MOST, POINTS = 1.25, 0.5
"""Bars: time of everything beside that of the passes alone, and points of error beside scikit-learn's."""


@dataclass(frozen=True)
class Case:
    """A network and images whose classes it need not know."""

    name: str
    target: Target
    train: SplitBatches
    validation: SplitBatches
    classes: int

    def probe(self) -> Probe:
        """Return what the command finds, without its test split."""
        return probe(self.target.chain, self.train, self.validation, classes=self.classes)

    def passes(self) -> Callable[[], None]:
        """Return the passes of the network over the same images."""
        chain = self.chain
        return self._over_all(torch.inference_mode()(lambda images: chain(images)))

    def passes_in_parts(self) -> Callable[[], None]:
        """Return them with as few images at a time as a probe reads."""
        chain = self.chain
        return self._over_all(torch.inference_mode()(lambda images: [chain(part) for part in parts_of(chain, images)]))

    def reading(self) -> Callable[[], None]:
        """Return the same passes, in which every place is read: heads that follow at once compute once more each."""
        chain = self.chain
        places = places_of(chain, self.train[0].images[:1])
        return self._over_all(lambda images: read_at(chain, places, images, FP32))

    @cached_property
    def chain(self) -> Chain:
        """The network as it is run."""
        return prepared(self.target.chain, self.train[0].images, precision="fp32", device=CPU).chain

    def _over_all(self, compute: Callable[[Tensor], object]) -> Callable[[], None]:
        def once() -> None:
            for batches in (self.train, self.validation):
                for batch in batches:
                    compute(batch.images)

        return once

    def theirs(self, strength: float) -> float:
        """Return the error in percent of scikit-learn's classifier at the end, with a strength of decay.

        At the minimum: by Newton's method, in double precision. L-BFGS, its default, stops short of it where decay is
        weak, or takes minutes.
        """
        chain = self.chain
        end = places_of(chain, self.train[0].images[:1])[-1:]
        both = []
        for batches in (self.train, self.validation):
            read = [(read_at(chain, end, batch.images, FP32), batch.labels) for batch in batches]
            both.append(Features(*(torch.cat(parts) for parts in zip(*read, strict=True))))
        x, z = (one.values.double() for one in both)
        mean, scale = x.mean(0), x.var(0, correction=0).mean().sqrt()
        solver = LogisticRegression(solver="newton-cg", C=1 / strength, tol=1e-7, max_iter=10_000)
        fitted = solver.fit((x - mean) / scale, both[0].labels)
        return 100 * (1 - float(fitted.score((z - mean) / scale, both[1].labels)))


def case(name: str, target: Target, data: str) -> Case:
    dataset = open_data_for(target, data, skip_broken=False, same_classes=False)
    train, validation = (
        SplitBatches(dataset.split(split), required_normalization(target), BATCH, CPU) for split in ("train", "val")
    )
    return Case(name, target, train, validation, len(dataset.classes))


def photos(data: str) -> Case:
    weights = SHARED / "weights" / "timm" / "tf_efficientnet_lite0.safetensors"
    target = open_target(TargetOptions(target=LITE0, weights=weights), report=lambda line: None)
    return case(data, target, str(SHARED / "data" / data))


def digits(folder: Path) -> Case:
    run = folder / "run"
    howdeep("train", "cifar_resnet20", "--data", "digits", "--epochs", 4, "--out", run)
    return case("digits", open_target(TargetOptions(target=str(run)), report=lambda line: None), "digits")


def agreement(one: Case, found: Probe) -> dict:
    end = found.end.fitted
    theirs = one.theirs(end.strength)
    apart = abs(end.error_percent - theirs)
    note = f"{end.error_percent:.2f} % and {theirs:.2f} % at the end, n = {found.n}, strength {end.strength:g}"
    return row(
        f"{one.name}: error beside scikit-learn's", apart, f"≤ {POINTS}", apart <= POINTS, unit="points", note=note
    )


def main() -> None:
    rounds = rounds_option(3)
    with threads_of(1), tempfile.TemporaryDirectory() as folder:
        trash = photos("trash")
        found: list[Probe] = []
        whole = {"probe": lambda: found.append(trash.probe())}
        passes = {"passes": trash.passes(), "passes in parts": trash.passes_in_parts()}
        sides = {**whole, "reading": trash.reading(), **passes}
        seconds = alternate(sides, rounds=rounds, warmup=0)
        times, reading, parts = (ratio(seconds, side, "passes") for side in ("probe", "reading", "passes in parts"))
        images = found[0].n + found[0].train_images
        depths = f"{len(found[0].depths)} depths, latencies included"
        note = f"{images:,} photos at 224 pixels, {depths}; reading every depth alone {reading:.3f},"
        note += f" passes of five images at a time {parts:.3f}"
        rows = [row("probe / passes alone", times, f"≤ {MOST}", times <= MOST, note=note), agreement(trash, found[0])]
        for make in (partial(photos, "sign"), partial(digits, Path(folder))):
            other = make()
            rows.append(agreement(other, other.probe()))
        report("probe", rows, seconds={side: spread(values) for side, values in seconds.items()})


if __name__ == "__main__":
    main()
