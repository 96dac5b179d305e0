"""The literature's claims, measured here: claim, source, what was measured with its interval, verdict, command.

Trainings are of 20,000 images of CIFAR-10 (JPEG), some epochs, three seeds; differences are those of equal seeds, with
Student's interval. Dissections are those of ``results/``. What is in ``reports/claims.cells.json`` is not measured
again: the same command resumes. A verdict is ``holds``, ``in part``, ``not here`` (the opposite was measured),
``cannot tell`` (the interval holds both) or ``not run``.
"""

import argparse
import json
import math
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from common import REPORTS, Row, alternate, howdeep, report, row
from howdeep.analysis.signals import flow
from howdeep.costs.measuring import Setting, Stepper
from howdeep.networks import build, spec_of
from howdeep.networks.counting import describe
from howdeep.util.intervals import of_mean
from subjects import CIFAR10, first_images, public

CELLS, RESULTS = REPORTS / "claims.cells.json", Path(__file__).parents[1] / "results"
IMAGES, EPOCHS, SEEDS = 20_000, 8, (0, 1, 2)
ON = ("--data", CIFAR10, "--limit", IMAGES)
TIMED = (
    *(f"cifar_resnet{depth}{width}" for width in ("", "_w2", "_w4") for depth in (8, 14, 20, 32)),
    *("cifar_preresnet20", "cifar_wideresnet16_4", "cifar_densenet40_k12", "cifar_densenet_bc40_k12"),
)
"""Networks of which a training step is timed."""
ROUNDS, DRAWS = 7, 10_000
SETTING = Setting(size=32, batch_size=128, precision="bf16", memory_format="channels_last", device="cpu")
Judged = tuple[str, str]
"""What was measured, and the verdict."""


class Cells:
    """What was measured already, by the command that measures it."""

    def __init__(self) -> None:
        self.known: dict[str, Any] = json.loads(CELLS.read_text()) if CELLS.exists() else {}

    def trained(self, network: str, *options: object, seed: int = 0, epochs: float = EPOCHS) -> dict[str, float]:
        """Return the errors of a training, in percent, and its seconds."""
        key = " ".join(map(str, ("train", network, *options, "--epochs", epochs, "--seed", seed)))
        if key not in self.known:
            with tempfile.TemporaryDirectory() as scratch:
                out = Path(scratch) / "run"
                howdeep("train", network, *ON, *options, "--epochs", epochs, "--seed", seed, "--out", out)
                result = json.loads((out / "result.json").read_text())
                lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
            training = [line["train_error_percent"] for line in lines if line["event"] == "epoch"][-1]
            self.known[key] = {
                "test": result["test"]["error_percent"],
                "training": training,
                "seconds": result["seconds"],
            }
            CELLS.write_text(json.dumps(self.known, indent=1) + "\n")
            print(key, self.known[key], flush=True)
        return self.known[key]

    def steps(self) -> dict[str, dict[str, float]]:
        """Return multiply-adds, activations and milliseconds of a training step of some networks, timed by turns."""
        if "steps" not in self.known:
            seconds = alternate({name: Stepper(spec_of(name), SETTING) for name in TIMED}, rounds=ROUNDS)
            self.known["steps"] = {
                name: {
                    "macs": describe(spec_of(name)).macs,
                    "activations": activations_of(name),
                    "ms": 1000 * statistics.median(seconds[name]),
                }
                for name in TIMED
            }
            CELLS.write_text(json.dumps(self.known, indent=1) + "\n")
        return self.known["steps"]

    def differences(
        self, one: Sequence[object], other: Sequence[object], what: str = "test", epochs: float = EPOCHS
    ) -> list[float]:
        """Return the one way's number minus the other's, of each seed."""
        pairs = [[self.trained(*map(str, side), seed=seed, epochs=epochs) for side in (one, other)] for seed in SEEDS]
        return [mine[what] - others[what] for mine, others in pairs]


def difference_text(values: Sequence[float]) -> str:
    low, high = of_mean(values)
    return f"{sum(values) / len(values):+.1f} points ({low:+.1f} to {high:+.1f}, {len(values)} seeds)"


def rises(values: Sequence[float]) -> str:
    """Return the verdict on the claim that something is more."""
    low, high = of_mean(values)
    return "holds" if low > 0 else "not here" if high < 0 else "cannot tell"


def falls(values: Sequence[float]) -> str:
    """Return the verdict on the claim that something is less."""
    return rises([-value for value in values])


def plain_degrades(cells: Cells) -> Judged:
    values = cells.differences(["cifar_plain56"], ["cifar_plain20"], "training")
    return f"training error, 56 − 20 layers: {difference_text(values)}", rises(values)


def residual_does_not(cells: Cells) -> Judged:
    values = cells.differences(["cifar_resnet56"], ["cifar_resnet20"], "training")
    low, high = of_mean(values)
    verdict = "not here" if low > 0 else "holds" if high <= 1 else "cannot tell"
    return f"training error, 56 − 20 layers: {difference_text(values)}", verdict


def gradients(cells: Cells) -> Judged:
    """The weights' gradient of the first unit as a multiple of that of the last, at the start, by depth."""

    def ratio(depth: int, normed: bool) -> float:
        chain = build(spec_of(f"cifar_plain{depth}", normed=normed), seed=0)
        batches = first_images(public("cifar_resnet56"), batch_size=100, limit=200)
        units = flow(chain, batches, statistics="batch").units
        first, last = units[0].weight_gradient, units[-1].weight_gradient
        assert first is not None
        assert last is not None
        return first / last

    found = {(depth, normed): ratio(depth, normed) for depth in (20, 56, 110) for normed in (True, False)}
    texts = [
        f"{'with' if normed else 'without'} norms, {depth}: {value:.1e}" for (depth, normed), value in found.items()
    ]
    drift = {normed: abs(math.log10(found[110, normed]) - math.log10(found[20, normed])) for normed in (True, False)}
    verdict = "holds" if drift[False] > 1 >= drift[True] else "in part" if drift[False] > drift[True] else "not here"
    return "; ".join(texts), verdict


def shortcuts(cells: Cells) -> Judged:
    network = "cifar_resnet20"
    kinds = {
        kind: cells.differences([network, "--shortcut", kind], [network, "--shortcut", "A"]) for kind in ("B", "C")
    }
    within = all(max(map(abs, of_mean(values))) <= 2 for values in kinds.values())
    beyond = any(min(of_mean(values)) > 2 or max(of_mean(values)) < -2 for values in kinds.values())
    text = "; ".join(f"{kind} − A: {difference_text(values)}" for kind, values in kinds.items())
    return text, "holds" if within else "not here" if beyond else "cannot tell"


def very_deep(cells: Cells) -> Judged:
    found = reported("very_deep")[0]
    return f"{found['what']} {found['value']:.1f} %", "holds" if found["value"] < 10 else "not here"


def dense(cells: Cells) -> Judged:
    values = cells.differences(["cifar_densenet_bc40_k12"], ["cifar_resnet20"])
    parameters = [
        sum(weight.numel() for weight in build(spec_of(name)).parameters())
        for name in ("cifar_densenet_bc40_k12", "cifar_resnet20")
    ]
    text = f"{parameters[0] / 1e6:.2f} M parameters against {parameters[1] / 1e6:.2f} M: {difference_text(values)}"
    return text, falls(values)


def dropping_is_quick(cells: Cells) -> Judged:
    found = reported("stochastic_depth")[0]
    return f"time of a step, {found['what']}: {found['value']:.2f}", "holds" if found["value"] <= 0.8 else "in part"


def linear_beats_uniform(cells: Cells) -> Judged:
    linear, uniform = (["cifar_resnet56", "--survival", rule] for rule in ("linear:0.5", "uniform:0.75"))
    values = cells.differences(linear, uniform)
    return f"test error, linear − uniform: {difference_text(values)}", falls(values)


def one_unit_matters_little(cells: Cells) -> Judged:
    units, plain = (
        [unit["change"] for unit in dissected(name)["units"] if unit["change"] is not None]
        for name in ("lesion_delete", "lesion_plain20_digits")
    )
    few = sum(change < 1 for change in units)
    text = f"{few} of {len(units)} cost less than a point; of a plain network at least {min(plain):.0f} points"
    return text, "holds" if few > len(units) / 2 and min(plain) > 10 else "in part"


def short_paths(cells: Cells) -> Judged:
    found = dissected("paths")
    own = found["effective"]
    text = f"lengths {min(own['lengths'])} to {max(own['lengths'])} of {found['units']} units:"
    text += f" {100 * own['share']:.0f} % of the gradient, {100 * own['path_fraction']:.0f} % of the paths"
    return text, "holds" if max(own["lengths"]) <= found["units"] / 2 and own["path_fraction"] < 0.5 else "in part"


def smooth_reordering(cells: Cells) -> Judged:
    found = dissected("lesion_permute")
    errors = [found["baseline"]["error_percent"], *(one["error_percent"] for one in found["by_k"])]
    text = f"errors of 0, 1 … {len(errors) - 1} exchanges: {errors[0]:.0f}, {errors[1]:.0f} … {errors[-1]:.0f} %"
    return text, "holds" if errors == sorted(errors) and errors[1] < 50 else "in part"


def effective_paths(cells: Cells) -> Judged:
    everything, effective = dissected("effective_paths")["rules"].values()
    pairs = zip(effective["error_percent"], everything["error_percent"], strict=True)
    values = [mine - others for mine, others in pairs]
    low, high = of_mean(values)
    text = f"digits, 20 epochs, 23 of 54 units − all: {difference_text(values)}"
    return text, "not here" if low > 0 else "holds" if high <= 1 else "cannot tell"


def more_budget_more_depth(cells: Cells) -> Judged:
    path = REPORTS / "budgets.json"
    if not path.exists():
        return "", "not run"
    lines = [line for line in json.loads(path.read_text())["table"] if not line["ms at most"]]
    depths = {name: [line["layers"] for line in lines if line["data"] == name] for name in ("digits", "cifar10")}
    text = "; ".join(f"{name}: {', '.join(map(str, found))} layers" for name, found in depths.items())
    grows = [found == sorted(found) and found[0] < found[-1] for found in depths.values()]
    return f"by minutes, {text}", "holds" if all(grows) else "in part" if any(grows) else "not here"


def activations_set_the_time(cells: Cells) -> Judged:
    """Of the time of a training step over networks, all numbers as logarithms."""
    found = cells.steps()
    names = ("macs", "activations", "ms")
    logs = np.log([[one[name] for name in names] for one in found.values()])
    draws = np.random.default_rng(0).integers(len(logs), size=(DRAWS, len(logs)))
    by_macs, by_activations = (
        np.array([np.corrcoef(logs[drawn, at], logs[drawn, 2])[0, 1] for drawn in [range(len(logs)), *draws]])
        for at in (0, 1)
    )
    low, high = np.quantile((by_activations - by_macs)[1:], [0.025, 0.975])
    text = f"correlation with a step's time over {len(logs)} networks: activations {by_activations[0]:.3f},"
    text += f" multiply-adds {by_macs[0]:.3f}; difference {low:+.3f} to {high:+.3f} (95 %, networks drawn again)"
    return text, "holds" if low > 0 else "not here" if high < 0 else "cannot tell"


def activations_of(network: str) -> int:
    """Return how many numbers the convolutions and the classifier of a network return, of one image."""
    chain, counts = build(spec_of(network), seed=0).eval(), []
    for module in chain.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(lambda _, __, output: counts.append(output.numel()))
    with torch.no_grad():
        chain(torch.zeros(1, 3, 32, 32))
    return sum(counts)


def reported(name: str) -> list[dict]:
    return json.loads((REPORTS / f"{name}.json").read_text())["rows"]


def dissected(name: str) -> dict:
    return json.loads((RESULTS / f"{name}.json").read_text())


@dataclass(frozen=True)
class Claim:
    """What somebody found, and how it is measured here."""

    says: str
    source: str
    command: str
    judged: Callable[[Cells], Judged]


HERE, DISSECTED = "python benchmarks/claims.py", "python benchmarks/literature.py"
LONG = "howdeep train cifar_resnet56 --data ../shared/data/cifar10 --epochs 60 --survival linear:0.5 --out run"
CLAIMS = [
    Claim("plain networks degrade: more layers, higher training error", "He et al. 2015, fig. 1", HERE, plain_degrades),
    Claim("residual networks do not", "He et al. 2015, fig. 6", HERE, residual_does_not),
    Claim("without norms gradients vanish or explode by depth", "He et al. 2015, sect. 1", HERE, gradients),
    Claim("shortcuts A, B and C are nearly as good", "He et al. 2015, tab. 3", HERE, shortcuts),
    Claim(
        "more than 1,200 layers train", "He et al. 2015, sect. 4.2", "python benchmarks/bench_very_deep.py", very_deep
    ),
    Claim("dense networks do more with fewer parameters", "Huang et al. 2017, sect. 4.3", HERE, dense),
    Claim(
        "stochastic depth saves a quarter of the time",
        "Huang et al. 2016, sect. 4",
        "python benchmarks/bench_stochastic_depth.py",
        dropping_is_quick,
    ),
    Claim("stochastic depth lowers the error", "Huang et al. 2016, tab. 1", LONG, lambda cells: ("", "not run")),
    Claim("linear survival beats uniform", "Huang et al. 2016, fig. 8", HERE, linear_beats_uniform),
    Claim(
        "one unit matters little, but in plain networks", "Veit et al. 2016, fig. 3", DISSECTED, one_unit_matters_little
    ),
    Claim("exchanged units cost smoothly more", "Veit et al. 2016, fig. 5", DISSECTED, smooth_reordering),
    Claim("most of the gradient flows through short paths", "Veit et al. 2016, fig. 6", DISSECTED, short_paths),
    Claim(
        "effective paths alone train as well",
        "Veit et al. 2016, sect. 4.3",
        "python benchmarks/effective_paths.py",
        effective_paths,
    ),
    Claim(
        "a larger budget takes more layers",
        "Bello et al. 2021, sect. 3",
        "python benchmarks/bench_budgets.py",
        more_budget_more_depth,
    ),
    Claim("activations, more than multiply-adds, set the time", "Dollár et al. 2021", HERE, activations_set_the_time),
]


def main() -> None:
    """Judge every claim and report all, or print those whose words are asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("words", nargs="*", help="parts of claims; all without them")
    words, cells, table = parser.parse_args().words, Cells(), []
    torch.manual_seed(0)
    for claim in CLAIMS:
        if words and not any(word in claim.says for word in words):
            continue
        measured, verdict = claim.judged(cells)
        table.append(
            {
                "claim": claim.says,
                "source": claim.source,
                "measured here": measured or "–",
                "verdict": verdict,
                "command": f"`{claim.command}`",
            }
        )
        print(claim.says, measured, verdict, sep=": ", flush=True)
    if words:
        return
    verdicts = [line["verdict"] for line in table]
    note = ", ".join(f"{verdicts.count(name)} {name}" for name in dict.fromkeys(verdicts))
    rows: list[Row] = [row("claims that hold here", verdicts.count("holds"), "shown beside", True, note=note)]
    report("claims", rows, table=table)


if __name__ == "__main__":
    main()
