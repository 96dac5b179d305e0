"""The figures of Veit et al. 2016 on the public 56-layer network and CIFAR-10, made by the commands alone.

Writes one record per figure to ``results/`` and one chart per figure to ``docs/figures/``; about ten minutes.
"""

import os
from pathlib import Path

from common import howdeep
from subjects import FILES, MEAN, STD

ROOT = Path(__file__).parents[1]
SHARED, RESULTS, FIGURES, RUNS = Path("../shared"), Path("results"), Path("docs/figures"), Path("runs/literature")
"""Relative to the repository, so that a record names no machine."""
ON_CIFAR = ("--data", SHARED / "data" / "cifar10")
FIGURES_OF = {
    "lesion_delete": ("lesion", "--kind", "delete"),
    "lesion_random": ("lesion", "--kind", "random", "--max-k", 20, "--limit", 2000, "--precision", "auto"),
    "lesion_permute": ("lesion", "--kind", "permute", "--max-k", 10, "--limit", 2000, "--precision", "auto"),
    "paths": ("paths", "--limit", 500, "--draws", 20),
    "flow": ("flow", "--limit", 1000),
}
CONTRAST = {"plain": "cifar_plain20", "residual": "cifar_resnet20"}
"""Trained on the digits, where a plain network of 20 layers still learns: what one layer pair less does to it."""


def main() -> None:
    os.chdir(ROOT)
    for folder in (RESULTS, FIGURES):
        folder.mkdir(exist_ok=True)
    run, file = RUNS / "cifar_resnet56", SHARED / "weights" / FILES["cifar_resnet56"]
    if not run.exists():
        howdeep("import", file, "--network", run.name, "--out", run, "--mean", *MEAN, "--std", *STD)
    for name, (command, *options) in FIGURES_OF.items():
        dissect(name, command, run, *ON_CIFAR, "--split", "test", *options)
    for label, network in CONTRAST.items():
        howdeep("train", network, "--data", "digits", "--epochs", 20, "--out", RUNS / network)
        dissect(f"lesion_{label}20_digits", "lesion", RUNS / network, "--split", "test")


def dissect(name: str, command: str, run: Path, *options: object) -> None:
    """Run one command and keep its record and its chart."""
    howdeep(
        command, run, *options, "--json", RESULTS / f"{name}.json", "--figure", FIGURES / f"{name}.svg", "--overwrite"
    )
    print(name)


if __name__ == "__main__":
    main()
