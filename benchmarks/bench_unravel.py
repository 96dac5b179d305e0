"""``unravel`` of resnet50, and the sum over path lengths on every network that is promised to work."""

import sys
import time
from pathlib import Path

import torch

from common import alternate, report, rounds_option, row, spread
from howdeep.analysis.gradients import exact_gradients, forward, image_norms, ordinary
from howdeep.analysis.paths import checked
from howdeep.convert import unravel
from howdeep.data import Batch
from howdeep.util.seeds import generator

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.convert.networks import CASES, foreign


def sum_check(name: str, size: int) -> dict:
    """Return how well the gradients by length add up on a traced network with random weights, in float64."""
    model = foreign(name)
    images = torch.randn(2, 3, size, size, generator=generator(0, "sums"), dtype=torch.float64)
    chain = unravel(model, images.float()).double()
    started = time.perf_counter()
    stream = forward(chain, Batch(images, torch.tensor([0, 1]), 2))
    whole = ordinary(stream)
    error = checked(exact_gradients(stream), whole)
    norm = float(image_norms(whole).mean())
    return {"units": len(chain), "error": error, "norm": norm, "seconds": time.perf_counter() - started}


def main() -> None:
    from torchvision.models import resnet50

    rounds, example = rounds_option(5), torch.zeros(2, 3, 224, 224)
    model = resnet50().eval()
    seconds = alternate({"unravel": lambda: unravel(model, example)}, rounds=rounds)["unravel"]
    found = {case.name: sum_check(case.name, case.pixels) for case in CASES}
    worst = max(found, key=lambda name: found[name]["error"])
    rows = [
        row("unravel of resnet50", spread(seconds)["median"], "≤ 3", spread(seconds)["median"] <= 3, unit="s"),
        row(
            f"path sums of {len(found)} traced networks: largest relative error",
            found[worst]["error"],
            "≤ 1e-10",
            found[worst]["error"] <= 1e-10,
            note=f"float64; {worst}, {found[worst]['units']} units",
        ),
    ]
    report("unravel", rows, seconds=spread(seconds), sums=found)


if __name__ == "__main__":
    main()
