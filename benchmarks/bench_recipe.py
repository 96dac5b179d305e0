"""What else could recipe ``fast`` do, and what is it worth in equal time? One way at a time, at two depths.

Every way is recipe ``fast`` with what its name says, trained on a part of CIFAR-10 (JPEG); the last epoch counts. Where
a step takes longer or shorter, there are as many fewer or more of them, by steps that are timed by turns. A change is
that of the error on the validation images against ``fast``, paired image by image over the seeds; the test images stay
unread. What is in ``reports/recipe.cells.json`` is not trained again: the same command resumes.
"""

import argparse
import json
import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer

from common import REPORTS, Row, alternate, ratio, report, row
from howdeep.chain import Chain
from howdeep.data import NORMALIZATIONS, Augmentation, Batch, open_data, steps_per_epoch
from howdeep.data.augmentation import draw_epoch
from howdeep.data.sampling import trainable
from howdeep.networks import build, spec_of
from howdeep.runtime.modes import norms_of
from howdeep.runtime.precision import Arithmetic, place
from howdeep.training.averaging import Average
from howdeep.training.optimizers import make_optimizer
from howdeep.training.recipes import Recipe, recipe_of
from howdeep.training.step import engine_of, train_step
from howdeep.util.intervals import of_change
from howdeep.util.seeds import generator
from subjects import CIFAR10

CELLS = REPORTS / "recipe.cells.json"
NETWORKS = ("cifar_resnet20", "cifar_resnet8_w2")
IMAGES, EPOCHS, ROUNDS = 20_000, 5, 15
BF16 = Arithmetic("bf16", "channels_last")
FAST = recipe_of("fast")


@dataclass(frozen=True)
class Way:
    """How a network is trained."""

    recipe: Recipe = FAST
    padding: int = 4
    """Pixels by which an image is shifted at most."""
    reflect: bool = False
    """What a shift brings in is the image, mirrored at its border; else zeros."""
    every_second: bool = False
    """An image is mirrored in every second epoch (Jordan 2024, arXiv 2404.00498); else by chance."""
    biases: float = 1.0
    """Rate of the biases of norms, as a multiple of that of their weights (the same)."""
    look_ahead: bool = False
    """The weights go back to an average every five steps (Zhang et al. 2019, arXiv 1907.08610)."""
    small: float = 0.0
    """Share of the run in which images have three quarters of their side."""

    def own(self, images: Tensor, at: float) -> Tensor:
        """Return the images of a step as they are shown, at a share of the run."""
        if at >= self.small:
            return images
        return F.interpolate(images, scale_factor=0.75, mode="bilinear", antialias=True)


WAYS = {
    "fast": Way(),
    "rate 0.1": Way(FAST.scaled(0.1)),
    "rate 0.4": Way(FAST.scaled(0.4)),
    "batches of 64": Way(replace(FAST, batch_size=64)),
    "batches of 256, rate 0.4": Way(replace(FAST.scaled(0.4), batch_size=256)),
    "weight decay 1e-3": Way(replace(FAST, weight_decay=1e-3)),
    "Muon, rate 0.005": Way(replace(FAST.scaled(0.005), optimizer="muon", weight_decay=0.05)),
    "Muon, rate 0.02": Way(replace(FAST.scaled(0.02), optimizer="muon", weight_decay=0.05)),
    "smoothing 0": Way(replace(FAST, label_smoothing=0.0)),
    "smoothing 0.2": Way(replace(FAST, label_smoothing=0.2)),
    "mirrored every second epoch": Way(every_second=True),
    "shifts by 2, mirrored border": Way(padding=2, reflect=True),
    "biases of norms × 8": Way(biases=8.0),
    "biases of norms × 64": Way(biases=64.0),
    "look-ahead": Way(look_ahead=True),
    "average of weights, 0.99": Way(replace(FAST, ema=0.99)),
    "branches not zero at the start": Way(replace(FAST, zero_init=False)),
    "first half at 24 pixels": Way(small=0.5),
}


@dataclass(frozen=True)
class Images:
    """Normalised images, float of shape (n, 3, 32, 32), and their classes."""

    values: Tensor
    labels: Tensor


@cache
def images_of(part: str) -> Images:
    """Return a stratified part of the training images, or the validation images."""
    dataset = trainable(open_data(str(CIFAR10)), IMAGES, 0)
    split, train = dataset.split(part), dataset.split("train")
    normalization = NORMALIZATIONS["per_channel"](train).to("cpu")
    return Images(normalization(split.pixels(torch.arange(len(split)))), split.labels)


def batches_of(way: Way, epoch: int, seed: int) -> Iterator[Batch]:
    """Yield the mini-batches of an epoch."""
    images, padding = images_of("train"), way.padding
    count = len(images.labels)
    draws = draw_epoch(count, Augmentation(padding, flip=True), seed=seed, epoch=epoch)
    if way.every_second:
        first = torch.rand(count, generator=generator(seed, "mirrored")) < 0.5
        draws = replace(draws, mirrored=first[draws.order] ^ bool(epoch % 2))
    for part in torch.arange(count).split(way.recipe.batch_size):
        drawn = draws.at(part)
        wide = F.pad(images.values[drawn.order], (padding,) * 4, mode="reflect" if way.reflect else "constant")
        windows = wide.unfold(2, 32, 1).unfold(3, 32, 1)
        seen = windows[torch.arange(len(part)), :, drawn.top, drawn.left]
        seen = torch.where(drawn.mirrored[:, None, None, None], seen.flip(3), seen)
        yield Batch(seen, images.labels[drawn.order], len(part))


class LookAhead(Average):
    """a ← a + (1 − d)(w − a) and w ← a every five steps, with d = 0.95⁵ (t/T)³ at step t of T."""

    @torch.no_grad()
    def back(self, step: int, total: int) -> None:
        """Set the chain back after a step, where it is time to; at the end always."""
        if (step + 1) % 5 and step + 1 < total:
            return
        for average, own in zip(self.tensors.values(), self.own, strict=True):
            average.lerp_(own, 1 - 0.95**5 * (step / total) ** 3)
            own.copy_(average)


def optimizer_of(way: Way, chain: Chain) -> Optimizer:
    """Return the optimizer of a way."""
    optimizer, biases = make_optimizer(chain, way.recipe), {norm.bias for norm in norms_of(chain)}
    groups = []
    for group in optimizer.param_groups:
        for scale, wanted in ((1.0, False), (way.biases, True)):
            weights = [one for one in group["params"] if (one in biases) == wanted]
            groups += [{**group, "params": weights, "scale": scale * group["scale"]}] if weights else []
    optimizer.param_groups = groups
    return optimizer


def prepared(network: str, way: Way, seed: int) -> Chain:
    """Return a network at its start."""
    spec = replace(spec_of(network), zero_init=way.recipe.zero_init)
    return place(build(spec, seed=seed).train(), BF16, torch.device("cpu"))


def time_of(network: str, way: Way) -> float:
    """Return what an image of a way costs in training, as a multiple of that of ``fast``."""
    same = (way.recipe.batch_size, way.recipe.optimizer) == (FAST.batch_size, FAST.optimizer)
    if same and not way.small:
        return 1.0

    def step(one: Way, at: float) -> Callable[[], object]:
        chain, count = prepared(network, one, 0), one.recipe.batch_size
        images = BF16.laid_out(one.own(torch.randn(count, 3, 32, 32), at))
        batch, optimizer = Batch(images, torch.zeros(count, dtype=torch.int64), count), optimizer_of(one, chain)
        how = {"lr": 0.0, "smoothing": 0.0, "arithmetic": BF16}
        return partial(train_step, engine_of(chain, False), optimizer, batch, None, **how)

    seconds = alternate({"fast": step(Way(), 1), "late": step(way, 1), "early": step(way, 0)}, rounds=ROUNDS)
    late, early = (ratio(seconds, side, "fast") * FAST.batch_size / way.recipe.batch_size for side in ("late", "early"))
    return way.small * early + (1 - way.small) * late


def trained(network: str, way: Way, seed: int, epochs: float) -> dict[str, Any]:
    """Train one; return which validation images it gets wrong, as hexadecimal bits."""
    recipe, chain = way.recipe, prepared(network, way, seed)
    optimizer, engine = optimizer_of(way, chain), engine_of(chain, False)
    per_epoch = steps_per_epoch(IMAGES, recipe.batch_size)
    total = round(epochs * per_epoch)
    average = None if recipe.ema is None else Average(chain, recipe.ema)
    ahead = LookAhead(chain, 0.0) if way.look_ahead else None
    step = 0
    for epoch in range(math.ceil(total / per_epoch)):
        for batch in batches_of(way, epoch, seed):
            if step == total:
                break
            shown = replace(batch, images=BF16.laid_out(way.own(batch.images, step / total)))
            how = {"lr": recipe.schedule.at(step, total), "smoothing": recipe.label_smoothing, "arithmetic": BF16}
            train_step(engine, optimizer, shown, None, **how)
            if average is not None:
                average.update(step)
            if ahead is not None:
                ahead.back(step, total)
            step += 1
    held = images_of("validation")
    with average.shown() if average else nullcontext(), torch.no_grad(), BF16.autocast(torch.device("cpu")):
        chain.eval()
        answers = torch.cat([chain(BF16.laid_out(part)).float().argmax(1) for part in held.values.split(500)])
    wrong = (answers != held.labels).int().tolist()
    bits = f"{int(''.join(map(str, wrong)), 2):x}"
    return {"wrong": bits, "n": len(wrong), "error": 100 * sum(wrong) / len(wrong)}


def main() -> None:
    """Train what is missing, then report all."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    cells: dict[str, Any] = json.loads(CELLS.read_text()) if CELLS.exists() else {}

    def measured(key: str, work: Callable[[], Any]) -> Any:
        if key not in cells:
            cells[key] = work()
            CELLS.write_text(json.dumps(cells) + "\n")
            print(key, cells[key] if isinstance(cells[key], float) else cells[key]["error"], flush=True)
        return cells[key]

    for seed in range(asked.seeds):
        for name, way in WAYS.items():
            for network in asked.networks:
                time = measured(f"{network} {name} time", partial(time_of, network, way))
                measured(f"{network} {name} {seed}", partial(trained, network, way, seed, EPOCHS / time))
    lines = [line_of(network, name, asked.seeds, cells) for name in WAYS for network in asked.networks]
    report("recipe", counted(lines), table=[one.shown for one in lines])


@dataclass(frozen=True)
class Line:
    """One way at one depth."""

    way: str
    low: float
    high: float
    shown: dict[str, Any]


def line_of(network: str, way: str, seeds: int, cells: dict[str, Any]) -> Line:
    """Return what a way brings at one depth."""
    mine, base = ([cells[f"{network} {one} {seed}"] for seed in range(seeds)] for one in (way, "fast"))
    pairs = [(int(one["wrong"], 16), int(other["wrong"], 16)) for one, other in zip(mine, base, strict=True)]
    newly, right = (sum((a & ~b).bit_count() for a, b in both) for both in (pairs, [(b, a) for a, b in pairs]))
    n, time = sum(one["n"] for one in mine), cells[f"{network} {way} time"]
    low, high = of_change(newly, right, n)
    shown = {
        "way": way,
        "network": network,
        "error %": f"{sum(one['error'] for one in mine) / seeds:.2f}",
        "change, 95 %": "–" if way == "fast" else f"{100 * (newly - right) / n:+.2f} ({low:+.2f} … {high:+.2f})",
        "time of an image": f"{time:.2f}",
        "epochs": f"{EPOCHS / time:.1f}",
    }
    return Line(way, low, high, shown)


def counted(lines: list[Line]) -> list[Row]:
    """Return which ways are better at every depth."""
    ways = [way for way in WAYS if way != "fast"]
    ends = {way: [(one.low, one.high) for one in lines if one.way == way] for way in ways}
    better = [way for way, both in ends.items() if all(high < 0 for _, high in both)]
    worse = [way for way, both in ends.items() if all(low > 0 for low, _ in both)]
    note = f"{', '.join(better) or 'none'}; worse at every depth: {', '.join(worse) or 'none'}"
    return [row(f"ways of {len(ways)} that are better at every depth", len(better), "shown beside", True, note=note)]


if __name__ == "__main__":
    main()
