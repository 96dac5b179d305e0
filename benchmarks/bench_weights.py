"""The public 20- and 56-layer weights on all 10,000 test images of CIFAR-10 (JPEG), through the commands."""

import json
import tempfile
from pathlib import Path

from common import SHARED, howdeep, report, row
from howdeep.util.text import percent_text

EXPECTED = {
    "cifar_resnet20": ("resnet20-12fca82f.th", 18.97),
    "cifar_resnet56": ("resnet56-4bfd9763.th", 16.80),
}
MEAN, STD = ("0.485", "0.456", "0.406"), ("0.229", "0.224", "0.225")


def main() -> None:
    rows = []
    for network, (file, error) in EXPECTED.items():
        with tempfile.TemporaryDirectory() as folder:
            run, weights = Path(folder) / "run", SHARED / "weights" / file
            howdeep("import", weights, "--network", network, "--out", run, "--mean", *MEAN, "--std", *STD)
            found = json.loads(howdeep("evaluate", run, "--data", SHARED / "data" / "cifar10", "--json", "-"))
        met = abs(found["error_percent"] - error) <= 0.05
        note = f"{percent_text(found['error_percent'], found['n'])}, n = {found['n']:,}"
        rows.append(row(f"{network}: test error", found["error_percent"], f"{error} ± 0.05", met, unit="%", note=note))
    report("weights", rows)


if __name__ == "__main__":
    main()
