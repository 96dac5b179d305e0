"""Write ``docs/results.md`` from the records in ``reports/``: every number there came out of a benchmark."""

import json
from pathlib import Path

from common import REPORTS

RESULTS = Path(__file__).parents[1] / "docs" / "results.md"
ORDER = ("weights", "stochastic_depth", "chain", "training", "very_deep", "memory")
HEAD = """# Measured results

Written by `python benchmarks/summary.py` from the records in `benchmarks/reports/`, which hold the spread, the
versions and the machine. Every ratio was measured with both sides in turn in one run: machines drift.
"""


def section(record: dict) -> list[str]:
    """Return the lines of one benchmark."""
    device, versions = record["device"], record["versions"]
    lines = [
        f"\n## {record['name'].replace('_', ' ')}\n",
        f"`{record['command']}`: {device['name']}, torch {versions['torch']}\n",
        "| what | measured | bar | | note |",
        "| --- | ---: | --- | --- | --- |",
    ]
    for row in record["rows"]:
        mark = "met" if row["met"] else "**missed**"
        lines.append(f"| {row['what']} | {row['value']:.4g} {row['unit']} | {row['bar']} | {mark} | {row['note']} |")
    return lines


def main() -> None:
    records = [json.loads(path.read_text()) for name in ORDER if (path := REPORTS / f"{name}.json").exists()]
    lines = [line for record in records for line in section(record)]
    RESULTS.write_text(HEAD + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
