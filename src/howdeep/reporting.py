"""Records as tables on a terminal."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from howdeep.evaluation import Evaluation
from howdeep.inference import Prediction

SHOWN_CLASSES = 20


def evaluation_table(found: Evaluation, target: str, data: str, split: str) -> RenderableType:
    """Return the headline of an evaluation, and its classes with the worst first."""
    headline = Text(f"{target} on {data} ({split}, n = {found.n:,}, {found.images_per_second:,.0f} images/s)")
    numbers = Text(
        f"error {found.error_percent:.2f} % ± {found.standard_error:.2f}   loss {found.loss:.4f}   "
        f"calibration error {found.calibration_error_percent:.2f} %",
        style="bold",
    )
    table = Table(box=None, pad_edge=False)
    table.add_column("class")
    table.add_column("n", justify="right")
    table.add_column("error %", justify="right")
    table.add_column("most often taken for")
    worst = sorted(range(len(found.classes)), key=lambda index: -(found.classes[index].error_percent or 0))
    for index in worst[:SHOWN_CLASSES]:
        result = found.classes[index]
        error = "–" if result.error_percent is None else f"{result.error_percent:.1f}"
        table.add_row(result.name, f"{result.n:,}", error, _confused(found, index))
    hidden = len(worst) - SHOWN_CLASSES
    return Group(headline, numbers, table, *([Text(f"… and {hidden} classes with fewer errors")] if hidden > 0 else []))


def predictions_table(found: Sequence[Prediction]) -> Table:
    """Return one line per image."""
    table = Table(box=None, pad_edge=False)
    table.add_column("image", overflow="fold")
    table.add_column("class and probability")
    for prediction in found:
        pairs = zip(prediction.classes, prediction.probabilities, strict=True)
        table.add_row(prediction.image, "  ".join(f"{name} {100 * share:.1f} %" for name, share in pairs))
    return table


def _confused(found: Evaluation, index: int) -> str:
    others = [(count, other) for other, count in enumerate(found.confusion[index]) if other != index and count]
    if not others:
        return ""
    count, other = max(others)
    return f"{found.classes[other].name} ({count})"
