"""The ladder on the digits: plain against residual networks, 8 to 110 layers, three seeds, equal epochs.

Writes ``results/degradation_digits.json`` and ``docs/figures/degradation_digits.svg``; about two minutes.
"""

import os
from pathlib import Path

from common import howdeep

ROOT = Path(__file__).parents[1]
NAME = "degradation_digits"


def main() -> None:
    os.chdir(ROOT)
    ladder = ("--depths", "8,20,56,110", "--families", "plain,resnet", "--seeds", 3, "--epochs", 8)
    places = ("--json", f"results/{NAME}.json", "--figure", f"docs/figures/{NAME}.svg", "--overwrite")
    print(howdeep("degradation", "--data", "digits", *ladder, "--out", f"runs/{NAME}", *places))


if __name__ == "__main__":
    main()
