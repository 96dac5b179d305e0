"""Does the best learning rate move with depth and width, and which scaling keeps it where it is?

A grid of rate × depth × width × seed, trained as recipe ``fast`` is (SGD, Nesterov, zero-initialised branches, one
cycle, the last epoch), on a part of the training images of ``digits`` or CIFAR-10; the rest of them is held out, the
test images stay unread. Relative to 8 layers, whose network has 3 units, and 16 channels:

    none      one rate for all
    branch    every branch × √(3 / units) (Bordelon et al. 2023, arXiv 2309.16620)
    mup       μP for SGD (Yang et al. 2022, arXiv 2203.03466): with f times the channels the rates of stem, norms and
              biases × f, that of the classifier / f, its initial weights / √f, convolutions as they are
    depth     rate × (8 / depth)^(3/2) (arXiv 2602.07494): the cells of ``none``, whose rates are read as others

The best rate is the lowest point of a parabola through the smallest mean loss on the images that are held out and its
neighbours, loss and rate on log scales. Beside it stand the rates whose error on these images, paired over all seeds,
cannot be told from the smallest at 95 %, each by itself. Both are of these seeds and images: others move them.

Cells in ``reports/rates.cells.jsonl`` are not trained again: the same command resumes. ``--minutes`` of processor time
begin cells, and the report is of what there is.
"""

import argparse
import json
import math
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from common import REPORTS, SHARED, Row, report, row
from howdeep.chain import Chain
from howdeep.data import NORMALIZATIONS, open_data
from howdeep.data.augmentation import Augmentation, augmentation_of
from howdeep.data.batches import steps_per_epoch, training_batches
from howdeep.data.dataset import Split
from howdeep.data.normalization import Normalization
from howdeep.data.sampling import shuffled
from howdeep.networks import build, spec_of
from howdeep.runtime.precision import FP32
from howdeep.show.figures.drawing import PLAIN, PURPLE, RESIDUAL, STOCHASTIC, Chart, data, described, heading, save
from howdeep.training.optimizers import make_optimizer
from howdeep.training.recipes import Recipe, recipe_of
from howdeep.training.step import train_step
from howdeep.util.intervals import Interval, of_change

CELLS = REPORTS / "rates.cells.jsonl"
FIGURES = Path(__file__).parents[1] / "docs" / "figures"
PARTS = {"digits": ("digits", 640, 12), "cifar10": (SHARED / "data" / "cifar10", 5_120, 10)}
"""What is trained on: data, training images, epochs."""
BATCH = {"digits": 32, "cifar10": 128}
"""Images of a mini-batch: on the digits fewer than the recipe's 128, so that few images are enough steps."""
HELD = 2_000
"""Images that are held out, at most."""
DEPTHS = (8, 110, 20, 56)
"""In the order in which they are tried."""
SHALLOW, UNITS, CHANNELS = 8, 3, 16
"""Layers, units and channels at which all rules are the same."""
RATES = (0.4, 0.2, 0.8, 0.1, 1.6, 0.05, 0.025, 3.2, 0.0125)
"""Octaves around that of recipe ``fast``, in the order in which they are tried."""
FAST = 0.2
"""What recipe ``fast`` has for all depths, with mini-batches of 128."""
COLOURS = [RESIDUAL, STOCHASTIC, PURPLE, PLAIN]
GRID = [("none", 1), ("branch", 1), ("none", 4), ("mup", 4)]
"""Rules and widths, in the order in which they are tried."""
MOST = 2.0
"""Times that the best rate may move between 8 and 110 layers."""


@dataclass(frozen=True)
class Cell:
    """One training."""

    data: str
    rule: str
    depth: int
    width: int
    rate: float
    seed: int


@dataclass(frozen=True)
class Images:
    """A part of a data set."""

    train: Split
    held: Tensor
    """Normalised images that are held out."""
    labels: Tensor
    normalization: Normalization
    augmentation: Augmentation
    epochs: int


@cache
def images_of(name: str) -> Images:
    """Return the training images of a part, and those that are held out, in an order by seed 0."""
    source, count, epochs = PARTS[name]
    dataset = open_data(str(source))
    mixed = shuffled(dataset.split("train"), 0)
    train, held = (mixed.take(part) for part in torch.arange(min(len(mixed), count + HELD)).tensor_split([count]))
    normalization = NORMALIZATIONS["per_channel"](train)
    pixels = normalization.to("cpu")(held.pixels(torch.arange(len(held))))
    return Images(train, pixels, held.labels, normalization, augmentation_of(dataset), epochs)


def network(cell: Cell, images: Images) -> Chain:
    """Return the network of a cell at its start."""
    name, channels = f"cifar_resnet{cell.depth}", images.held.shape[1]
    wide = CHANNELS * cell.width
    spec = replace(spec_of(name, channels=channels, zero_init=True), width=wide, stem=wide)
    chain = build(spec, seed=cell.seed).train()
    if cell.rule == "mup":
        with torch.no_grad():
            chain.get_parameter("head.linear.weight").div_(math.sqrt(cell.width))
    return chain.to(memory_format=torch.channels_last)


def optimizer_of(cell: Cell, chain: Chain, recipe: Recipe) -> Optimizer:
    """Return the optimizer of a recipe, with other rates per weight where the rule has them."""
    optimizer, scales = make_optimizer(chain, recipe), defaultdict(lambda: 1.0, scales_of(cell, chain))
    groups = []
    for group in optimizer.param_groups:
        alike = defaultdict(list)
        for weight in group["params"]:
            alike[scales[weight]].append(weight)
        groups += [{**group, "params": weights, "scale": scale} for scale, weights in alike.items()]
    optimizer.param_groups = groups
    return optimizer


def scales_of(cell: Cell, chain: Chain) -> dict[Tensor, float]:
    """Return the factors of the rates that are not 1.

    A branch that ends in a norm, times s, is that of the norm with γ' = sγ and β' = sβ. A step −η ∂L/∂γ moves γ' by
    −η s² ∂L/∂γ': from γ = 0 on, with momentum and without decay of norms, s is nothing but a rate of γ and β times s².
    """
    if cell.rule == "branch":
        norms = [[one for one in unit.branch.modules() if isinstance(one, nn.BatchNorm2d)][-1] for unit in chain.units]
        return {weight: UNITS / len(chain) for norm in norms for weight in norm.parameters()}
    if cell.rule == "mup":
        vectors = [one for name, one in chain.named_parameters() if one.dim() == 1 and name != "head.linear.bias"]
        head = chain.get_parameter("head.linear.weight")
        return {**dict.fromkeys([*vectors, *chain.stem.parameters()], cell.width), head: 1 / cell.width}
    return {}


def trained(cell: Cell) -> dict[str, Any]:
    """Train a network and return which images that are held out it gets wrong, as hexadecimal bits, and its losses."""
    started, images = time.process_time(), images_of(cell.data)
    chain = network(cell, images)
    recipe = replace(recipe_of("fast").scaled(cell.rate), batch_size=BATCH[cell.data])
    optimizer = optimizer_of(cell, chain, recipe)
    per_epoch = steps_per_epoch(len(images.train), recipe.batch_size)
    total, losses = images.epochs * per_epoch, []
    batches = training_batches(
        images.train,
        normalization=images.normalization,
        augmentation=images.augmentation,
        batch_size=recipe.batch_size,
        seed=cell.seed,
        start_step=0,
        stop_step=total,
        device="cpu",
        channels_last=True,
    )
    for step, batch in enumerate(batches):
        lr, smoothing = recipe.schedule.at(step, total), recipe.label_smoothing
        loss, _ = train_step(chain, optimizer, batch, None, lr=lr, smoothing=smoothing, arithmetic=FP32)
        losses.append(loss)
        if not math.isfinite(loss):
            break
    with torch.inference_mode():
        logits = torch.cat([chain.eval()(part) for part in images.held.split(200)])
    held = float(F.cross_entropy(logits, images.labels))
    bits = (logits.argmax(1) != images.labels) | ~logits.isfinite().all(1)
    return {
        "wrong": f"{int(''.join(map(str, bits.int().tolist())), 2):x}",
        "n": len(bits),
        "loss": held if math.isfinite(held) else None,
        "training_loss": statistics.fmean(losses[-per_epoch:]) if math.isfinite(losses[-1]) else None,
        "seconds": round(time.process_time() - started, 1),
    }


def cells_of(name: str, seeds: int) -> Iterator[Cell]:
    """Yield all cells, those first that say most."""
    for seed in range(seeds):
        for rule, width in GRID:
            for rate in RATES:
                for depth in DEPTHS:
                    if (rule, depth) != ("branch", SHALLOW):
                        yield Cell(name, rule, depth, width, rate, seed)


def known() -> dict[Cell, dict[str, Any]]:
    """Return the cells that were trained before."""
    lines = CELLS.read_text().splitlines() if CELLS.exists() else []
    return {Cell(**one["cell"]): one["found"] for one in map(json.loads, lines)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", choices=list(PARTS), default="digits")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=math.inf)
    parser.add_argument("--only", nargs="*", default=[], help="such as branch:1:110, a rule, a width and a depth")
    parser.add_argument("--rates", nargs="*", type=float, default=list(RATES))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    found = known()
    for cell in cells_of(asked.data, asked.seeds):
        named = not asked.only or f"{cell.rule}:{cell.width}:{cell.depth}" in asked.only
        chosen = named and cell.rate in asked.rates
        if cell not in found and chosen and time.process_time() < 60 * asked.minutes:
            found[cell] = trained(cell)
            with CELLS.open("a") as file:
                file.write(json.dumps({"cell": vars(cell), "found": found[cell]}) + "\n")
            print(cell, found[cell]["loss"], found[cell]["seconds"], flush=True)
    lines = [one for one in lines_of(found) if one.data == asked.data]
    save(chart(lines), FIGURES / f"rates_{asked.data}.svg")
    report(f"rates_{asked.data}", moves(lines), figure=f"rates_{asked.data}", table=[one.shown for one in lines])


@dataclass(frozen=True)
class Line:
    """One network under one rule, at all its rates."""

    data: str
    rule: str
    width: int
    depth: int
    found: dict[float, list[dict[str, Any]]]
    """Rate, ascending → what was found, one per seed, the same seeds everywhere."""

    def losses(self, seeds: slice = slice(None)) -> dict[float, float]:
        """Return the mean loss of some seeds by rate; infinite where one is not a number."""
        many = {rate: [cell["loss"] for cell in cells[seeds]] for rate, cells in self.found.items()}
        return {rate: math.inf if None in one else statistics.fmean(one) for rate, one in many.items()}

    def best(self, seeds: int) -> float:
        """Return the best rate over the first seeds."""
        return lowest(self.losses(slice(seeds)))

    @property
    def single(self) -> list[float]:
        """The best rate of every seed by itself."""
        return [lowest(self.losses(slice(seed, seed + 1))) for seed in range(len(next(iter(self.found.values()))))]

    @property
    def edge(self) -> bool:
        """Whether the smallest loss is that of the lowest or highest rate, so that the best may lie beyond."""
        losses = self.losses()
        return min(losses, key=losses.__getitem__) in (min(losses), max(losses))

    def errors(self, rate: float) -> float:
        """Return the mean error of a rate in percent."""
        return 100 * sum(int(cell["wrong"], 16).bit_count() / cell["n"] for cell in self.found[rate]) / self.seeds

    @property
    def seeds(self) -> int:
        """How many there are."""
        return len(next(iter(self.found.values())))

    def change(self, rate: float, other: float) -> Interval:
        """Return the interval of the error of one rate minus that of another, paired over all seeds."""
        pairs = [
            (int(one["wrong"], 16), int(two["wrong"], 16), one["n"])
            for one, two in zip(self.found[rate], self.found[other], strict=True)
        ]
        worse, better = (sum((a & ~b).bit_count() for a, b, _ in pairs), sum((b & ~a).bit_count() for a, b, _ in pairs))
        return of_change(worse, better, sum(n for *_, n in pairs))

    @property
    def alike(self) -> list[float]:
        """The rates whose error cannot be told from the smallest."""
        least = min(self.found, key=self.errors)
        return [rate for rate in self.found if rate == least or not self.change(rate, least).beyond_chance]

    @property
    def shown(self) -> dict[str, Any]:
        """A row of the table; errors in percent of the images that are held out."""
        least = min(self.found, key=self.errors)
        row = {"rule": self.rule, "width": self.width, "layers": self.depth, "seeds": self.seeds}
        row["best rate"] = f"{self.best(self.seeds):.2g}{' (edge)' if self.edge else ''}"
        row["of single seeds"] = ", ".join(f"{one:.2g}" for one in self.single)
        row["rates alike"] = f"{min(self.alike):g} … {max(self.alike):g}"
        row["least error"] = f"{self.errors(least):.2f}"
        at = FAST if FAST in self.found else least
        low, high = self.change(at, least)
        row[f"at {FAST}, over it"] = f"{self.errors(at) - self.errors(least):.2f} ({low:+.2f} … {high:+.2f})"
        return row


def lowest(losses: dict[float, float]) -> float:
    """Return the rate at the lowest point of a parabola through the smallest loss and its neighbours, on log scales."""
    rates = sorted(rate for rate, loss in losses.items() if math.isfinite(loss))
    place = min(range(len(rates)), key=lambda one: losses[rates[one]])
    if place in (0, len(rates) - 1):
        return rates[place]
    near = rates[place - 1 : place + 2]
    curve = np.polyfit(np.log(near), np.log([losses[rate] for rate in near]), 2)
    return float(np.exp(-curve[1] / (2 * curve[0])))


def lines_of(found: dict[Cell, dict[str, Any]]) -> list[Line]:
    """Return the networks of which a seed has three rates: all such seeds, with the rates that all of them have."""
    grouped: dict[tuple[str, str, int, int], dict[float, dict[int, dict[str, Any]]]] = {}
    shared = {replace(cell, rule="branch"): one for cell, one in found.items() if cell.rule == "none"}
    found = found | {
        cell: one for cell, one in shared.items() if cell.depth == SHALLOW and (cell.rule, cell.width) in GRID
    }
    for cell, one in found.items():
        rates = grouped.setdefault((cell.data, cell.rule, cell.width, cell.depth), {})
        rates.setdefault(cell.rate, {})[cell.seed] = one
    lines = []
    for (name, rule, width, depth), rates in grouped.items():
        counts = Counter(seed for seeds in rates.values() for seed in seeds)
        seeds = sorted(seed for seed, count in counts.items() if count >= 3)
        whole = {
            rate: [cells[seed] for seed in seeds] for rate, cells in sorted(rates.items()) if cells.keys() >= {*seeds}
        }
        lines += [Line(name, rule, width, depth, whole)] if seeds and len(whole) >= 3 else []
    return sorted(lines, key=lambda one: (GRID.index((one.rule, one.width)), one.depth))


def moves(lines: list[Line]) -> list[Row]:
    """Return how often the best rate of the shallowest network is that of the deepest, for every rule and width."""
    rows = []
    for rule, width in GRID:
        same = [one for one in lines if (one.rule, one.width) == (rule, width)]
        if len(same) < 2:
            continue
        low, high = same[0], same[-1]
        factor = (high.depth / low.depth) ** 1.5
        seeds = min(low.seeds, high.seeds)
        pairs = [one / two for one, two in zip(low.single, high.single, strict=False)]
        for name, scale in ((rule, 1.0), *([("depth", factor)] if rule == "none" else [])):
            moved = low.best(seeds) / high.best(seeds) / scale
            what = f"{name}, width {width}: best rate of {low.depth} layers / of {high.depth}"
            each = ", ".join(f"{pair / scale:.2g}" for pair in pairs)
            rows.append(row(what, moved, f"1/{MOST:g} … {MOST:g}", 1 / MOST <= moved <= MOST, note=f"by seed {each}"))
    return rows


def chart(lines: list[Line]) -> Chart:
    """Return the loss against the rate, a panel per rule and width, a line per depth."""
    panels = []
    for rule, width in GRID:
        same = [one for one in lines if (one.rule, one.width) == (rule, width)]
        if same:
            panels.append(panel(f"{rule}, width {width}", same))
    finding = "Loss on images that are held out against the highest learning rate"
    marks = "a line per depth; the best rate of each is where its line is lowest"
    return alt.hconcat(*panels, spacing=18).properties(title=heading(finding, subtitle=marks))


def panel(title: str, lines: list[Line]) -> alt.LayerChart:
    """Return the chart of one rule at one width."""
    rows = []
    for line in lines:
        for rate, loss in line.losses().items():
            if math.isfinite(loss):
                tell = f"{line.depth} layers at {rate:g}: loss {loss:.3f}, error {line.errors(rate):.1f} %"
                rows.append({"layers": str(line.depth), "rate": rate, "loss": loss, "tell": tell})
    scale = alt.Scale(domain=[str(depth) for depth in sorted(DEPTHS)], range=COLOURS)
    colour = alt.Color("layers:N", scale=scale, title="layers")
    x = alt.X("rate:Q", title="highest rate", scale=alt.Scale(type="log"), axis=alt.Axis(grid=False))
    y = alt.Y("loss:Q", title="loss (nats)", scale=alt.Scale(type="log", nice=False))
    base = alt.Chart(data(rows)).encode(x=x, y=y, color=colour)
    layers = [base.mark_line(strokeWidth=2), described(base.mark_point(filled=True, size=35, opacity=1))]
    return alt.LayerChart(layer=layers).properties(width=220, height=240, title=title)


if __name__ == "__main__":
    main()
