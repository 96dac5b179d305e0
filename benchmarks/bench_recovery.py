"""Cut networks fine-tuned by labels alone, and by the uncut network beside them (``howdeep cut --epochs --teacher``).

Three seeds of the training images and their order for each network, the same for both ways; errors of the best
validation epoch on the test images, whether it helped or not.
"""

import argparse
import copy
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

import howdeep
from common import SHARED, Row, report, row
from howdeep.chain import Chain
from howdeep.data.split_loaders import Loaders
from howdeep.networks import spec_of
from howdeep.runs.options import TargetOptions
from howdeep.runs.target import open_target
from howdeep.util.intervals import of_mean
from subjects import CIFAR10, MEAN, STD, public

SEEDS, CALIBRATION, TESTING = (0, 1, 2), 500, 2000
PIXELS, HALF = 128, (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Subject:
    """A trained network and its images, the units that go, and the epochs that follow."""

    whole: Chain
    images: Loaders
    out: int
    epochs: float


def digits(seed: int) -> Subject:
    images = howdeep.loaders("digits", batch_size=128, seed=seed)
    chain = howdeep.build(spec_of("cifar_resnet20", channels=1), seed=seed)
    howdeep.train(chain, images.train, images.validation, recipe="fast", epochs=8, seed=seed)
    return Subject(chain, images, 4, 3)


def cifar(seed: int) -> Subject:
    images = howdeep.loaders(CIFAR10, mean=MEAN, std=STD, limit=5_000, seed=seed)
    return Subject(public("cifar_resnet56").chain, images, 8, 2)


def trash(seed: int) -> Subject:
    weights = SHARED / "weights" / "timm" / "tf_efficientnet_lite0.safetensors"
    options = TargetOptions(target="timm:tf_efficientnet_lite0", weights=weights, size=PIXELS)
    chain = open_target(options, report=print).chain
    images = howdeep.loaders(SHARED / "data" / "trash", size=PIXELS, mean=HALF, std=HALF, seed=seed)
    howdeep.train(chain, images.train, images.validation, classifier="new", epochs=3, seed=seed)
    return Subject(chain, images, 3, 2)


SUBJECTS: dict[str, Callable[[int], Subject]] = {"digits": digits, "cifar": cifar, "trash": trash}


def wrong(chain: Chain, images: Tensor, labels: Tensor) -> float:
    """Return the error in percent."""
    with torch.inference_mode():
        found = torch.cat([chain(batch).argmax(1) for batch in images.split(100)])
    return 100 * float((found != labels).double().mean())


def errors(subject: Subject, seed: int) -> dict[str, float]:
    """Return the test errors of a network: whole, cut and repaired, and fine-tuned in both ways."""
    whole, images = subject.whole.eval(), subject.images
    tested = [torch.cat(part)[:TESTING] for part in zip(*images.test, strict=True)]
    calibration = list(islice(images.validation, -(-CALIBRATION // len(next(iter(images.validation))[1]))))
    cut = howdeep.cut(whole, calibration, units=len(whole) - subject.out).chain
    assert cut is not None
    found = {"whole": wrong(whole, *tested), "cut": wrong(cut.eval(), *tested)}
    for way, teacher in (("labels", None), ("taught", whole)):
        chain = copy.deepcopy(cut)
        howdeep.train(chain, images.train, images.validation, teacher=teacher, epochs=subject.epochs, seed=seed)
        found[way] = wrong(chain, *tested)
    return {**found, "images": len(tested[1])}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("subjects", nargs="*", choices=[*SUBJECTS, []])
    rows: list[Row] = []
    table = []
    for name in parser.parse_args().subjects or SUBJECTS:
        found = []
        for seed in SEEDS:
            found.append({"network": name, "seed": seed, **errors(SUBJECTS[name](seed), seed)})
            print(found[-1], flush=True)
        means = {way: statistics.fmean(one[way] for one in found) for way in ("whole", "cut", "labels", "taught")}
        interval = of_mean([one["taught"] - one["labels"] for one in found])
        said = ", ".join(f"{way} {mean:.2f} %" for way, mean in means.items())
        note = (
            f"95 %: {interval.low:+.2f} to {interval.high:+.2f}, {len(SEEDS)} seeds; {said}; n = {found[0]['images']:,}"
        )
        gain, what = means["taught"] - means["labels"], f"{name}: taught, change of the error"
        rows.append(row(what, gain, "shown beside", True, unit="points", note=note))
        table += found
    report("recovery", rows, table=table)


if __name__ == "__main__":
    main()
