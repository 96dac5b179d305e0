"""Write ``docs/results.md`` from the records in ``reports/``: every number there came out of a benchmark."""

import json
from pathlib import Path

from common import REPORTS
from howdeep.analysis.lesion import Lesion
from howdeep.analysis.paths import Paths
from howdeep.analysis.signals import Flow
from howdeep.search.degradation import Degradation
from howdeep.show import figures
from howdeep.show.report.reading import read_record
from howdeep.show.sentences import flow_finding, lesion_finding, measured, paths_finding
from howdeep.util.text import percent_text, share_text

RESULTS_FOLDER = Path(__file__).parents[1] / "results"
RESULTS = Path(__file__).parents[1] / "docs" / "results.md"
ORDER = [
    "weights",
    "stochastic_depth",
    "chain",
    "training",
    "step",
    "threads",
    "very_deep",
    "memory",
    "cost",
    "fit_digits",
    "fit_cifar10",
    "fit_cifar10_10m",
    "fit_cifar10_30m",
    "fit_folder",
    "budgets",
    "rates_digits",
    "rates_cifar10",
    "recipe",
    "cut",
    "joint_cifar",
    "joint_photos",
    "runtime",
    "lesion",
    "probe",
    "depths",
    "published",
    "control",
    "paths",
    "unravel",
    "traced",
    "drop_path",
    "finetuning",
    "photos",
    "explorer",
]
FIGURES = {
    "lesion_delete": "one unit out at a time",
    "lesion_random": "units out at random",
    "lesion_permute": "units of equal shape that change places",
    "paths": "the gradient by path length",
    "flow": "signal and gradient through the depth",
    "lesion_plain20_digits": "a plain network of 20 layers, one unit bypassed at a time",
    "lesion_residual20_digits": "a residual network of 20 layers, likewise",
    "degradation_digits": "more layers, plain and residual, on the digits",
}
"""Record in ``results/`` → what it shows."""
NOTE = """
The literature's 5.96 % against 6.10 % (no difference) is CIFAR-10 after hundreds of epochs; in a short training, as
here, less than half of the units do worse than all.
"""
LITERATURE = """
## The literature's figures

Of Veit et al. 2016, on the public 56-layer network (27 units, post-activation) and CIFAR-10, made by
`python benchmarks/literature.py`; the whole records are in `results/`. The literature has 54 pre-activation units.
"""
HEAD = """# Measured results

Written by `python benchmarks/summary.py` from the records in `benchmarks/reports/`, which hold the spread, the
versions and the machine. Every ratio was measured with both sides in turn in one run: machines drift.
± is one standard error. Where a command below says `--limit N`, its record was made on the first N test images of
CIFAR-10, whose order is random; today `--limit` draws a stratified sample by seed.
"""


def section(record: dict) -> list[str]:
    """Return the lines of one benchmark."""
    device, versions = record["device"], record["versions"]
    lines = [
        f"\n## {record['name'].replace('_', ' ')}\n",
        f"`{record['command']}`: {device['name']}, torch {versions['torch']}\n",
        *([f"{record['remark']}\n"] if "remark" in record else []),
        "| what | measured | bar | | note |",
        "| --- | ---: | --- | --- | --- |",
    ]
    for row in record["rows"]:
        mark = "met" if row["met"] else "**missed**"
        lines.append(f"| {row['what']} | {row['value']:.4g} {row['unit']} | {row['bar']} | {mark} | {row['note']} |")
    picture = [f"\n![{record['name']}](figures/{record['figure']}.svg)"] if "figure" in record else []
    return [*lines, *table(record.get("table", [])), *picture]


def table(rows: list[dict]) -> list[str]:
    """Return the lines of a table that a benchmark made beside its rows."""
    if not rows:
        return []
    lines = ["", f"| {' | '.join(rows[0])} |", f"|{' ---: |' * len(rows[0])}"]
    return [*lines, *(f"| {' | '.join(str(value) for value in row.values())} |" for row in rows)]


def figure(name: str, what: str) -> list[str]:
    """Draw one figure and return its lines: what it shows, the sentence computed from its record, the command."""
    record = read_record(RESULTS_FOLDER / f"{name}.json")
    assert record is not None
    figures.save(CHARTS[record.kind](record.value), RESULTS.parent / "figures" / f"{name}.svg")
    lines = [
        f"\n### {what[0].upper()}{what[1:]}\n",
        f"`{record.origin.command}`\n",
        f"{SENTENCES[record.kind](record.value)}.",
    ]
    return [*lines, f"\n![{what}](figures/{name}.svg)"]


def lesion_said(lesion: Lesion) -> str:
    """Return what single units cost."""
    base = lesion.baseline
    units = sorted(measured(lesion), key=lambda unit: -(unit.change or 0))[:5]
    before = f"Baseline {percent_text(base.error_percent, base.n)}, n = {base.n:,}"
    costs = [
        f"unit {unit.index} {unit.change:+.1f} ({unit.change_low:+.1f} … {unit.change_high:+.1f})" for unit in units
    ]
    worst = f"; most, with 95 % intervals: {', '.join(costs)}" if costs else ""
    return f"{before}; {lesion_finding(lesion)}{worst}"


def ladder_said(found: Degradation) -> str:
    """Return the diagnoses with their evidence."""
    return ". ".join([found.finding, *(family.diagnosis.evidence for family in found.families)])


def flow_said(flow: Flow) -> str:
    """Return what happens to the gradient."""
    return f"{flow_finding(flow)} (n = {flow.n:,})"


def paths_said(paths: Paths) -> str:
    """Return both meanings of effective paths, and the check."""
    other = paths.effective_by_sample
    by_sample = (
        other
        and f" By the sum of norms: {min(other.lengths)} to {max(other.lengths)}, {share_text(other.path_fraction)}."
    )
    check = f" The lengths add up to autograd's gradient within {paths.sum_check_relative_error:.1e}"
    return f"{paths_finding(paths)} (norm of the sum, n = {paths.n:,}).{by_sample}{check}"


SENTENCES = {"lesion": lesion_said, "degradation": ladder_said, "paths": paths_said, "flow": flow_said}
CHARTS = {"lesion": figures.lesion, "degradation": figures.degradation, "paths": figures.paths, "flow": figures.flow}


def effective_paths() -> list[str]:
    """Return the lines of the experiment that trains effective paths alone."""
    record = json.loads((RESULTS_FOLDER / "effective_paths.json").read_text())
    found = [f"{label}: {rule['mean']:.2f} % ± {rule['standard_error']:.2f}" for label, rule in record["rules"].items()]
    setting = (
        f"{record['network']} on the digits, {record['epochs']} epochs, test error over 3 seeds (n = {record['n']})"
    )
    return [
        "\n### Training effective paths alone\n",
        f"`{record['command']}`\n",
        f"{setting}: {'; '.join(found)}.",
        NOTE,
    ]


def main() -> None:
    there = {path.stem: path for path in sorted(REPORTS.glob("*.json")) if path.suffixes == [".json"]}
    # One that has no place in the order yet stands at the end: nothing that was measured is left out.
    names = [*(name for name in ORDER if name in there), *(name for name in there if name not in ORDER)]
    records = [json.loads(there[name].read_text()) for name in names]
    lines = [line for record in records for line in section(record)]
    lines += [LITERATURE, *(line for name, what in FIGURES.items() for line in figure(name, what))]
    lines += effective_paths()
    RESULTS.write_text(HEAD + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
