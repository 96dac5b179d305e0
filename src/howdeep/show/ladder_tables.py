"""A ladder as a table on a terminal of 80 columns, its diagnoses below."""

import statistics
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from howdeep.search.degradation import Degradation, FamilyResult
from howdeep.search.diagnosis import Estimate, Point
from howdeep.search.ladder_runs import LadderRun


def degradation_table(found: Degradation) -> RenderableType:
    """Return the diagnoses, one row per family and depth, and the evidence."""
    table = Table(box=None, pad_edge=False)
    for name in ("family", "layers", "training %", "validation %", "gap", "epochs", "seconds", ""):
        table.add_column(name, justify="left" if name in ("family", "") else "right", no_wrap=True)
    for family in found.families:
        for point in family.points:
            table.add_row(*_row(found, family, point))
    verdicts = [_verdict(family) for family in found.families]
    return Group(Text(_conditions(found)), table, Text(""), *verdicts)


def _conditions(found: Degradation) -> str:
    count = len(found.seeds)
    means = (
        f"errors over {count} seeds ± standard errors" if count > 1 else "errors of one seed ± binomial standard errors"
    )
    return f"{found.data}, equal {found.equal}: {means}{_images(found.rungs)}"


def _images(rungs: Sequence[LadderRun]) -> str:
    errors = next((rung.errors for rung in rungs if rung.errors is not None), None)
    if errors is None:
        return ""
    seen = f"{errors.training_images:,} training images, not augmented"
    return f"\n(final networks, {seen}; {errors.validation_images:,} of validation)"


def _row(found: Degradation, family: FamilyResult, point: Point) -> tuple[str, ...]:
    own = [rung for rung in found.rungs if (rung.family, rung.depth) == (family.family, point.depth)]
    epochs, seconds = (statistics.fmean(getattr(rung, name) for rung in own) for name in ("epochs", "seconds"))
    first = point is family.points[0]
    enough = "enough" if point.depth == family.diagnosis.enough else ""
    mark = f"{point.failed} not finite" if point.failed else enough
    numbers = (_text(estimate) for estimate in (point.training, point.validation, point.gap))
    return family.family if first else "", f"{point.depth:,}", *numbers, f"{epochs:.4g}", _seconds(seconds), mark


def _text(estimate: Estimate | None) -> str:
    return "–" if estimate is None else str(estimate)


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f}" if seconds < 100 else f"{seconds:,.0f}"


def _verdict(family: FamilyResult) -> Text:
    text = Text(f"{family.family}: {family.diagnosis.headline}", style="bold")
    return text.append(f"\n  {family.diagnosis.evidence}", style="not bold")
