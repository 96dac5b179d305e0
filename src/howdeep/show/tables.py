"""Records as tables on a terminal."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from howdeep.analysis.evaluation import Evaluation
from howdeep.analysis.inference import Prediction
from howdeep.exporting.export import Export
from howdeep.util.text import percent_text

SHOWN_CLASSES = 20


def evaluation_table(found: Evaluation, target: str, data: str, split: str) -> RenderableType:
    """Return the headline of an evaluation, and its classes with the worst first."""
    headline = Text(f"{target} on {data} ({split}, n = {found.n:,}, {found.images_per_second:,.0f} images/s)")
    numbers = Text(
        f"error {percent_text(found.error_percent, found.n)}   loss {found.loss:.4f}   "
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
        table.add_row(result.name, f"{result.n:,}", error, taken_for(found, index))
    hidden = len(worst) - SHOWN_CLASSES
    return Group(headline, numbers, table, *([Text(f"… and {hidden} classes with fewer errors")] if hidden > 0 else []))


def predictions_table(found: Sequence[Prediction]) -> Table:
    """Return one line per image."""
    table = Table(box=None, pad_edge=False)
    table.add_column("image", overflow="fold")
    table.add_column("class and probability")
    for prediction in found:
        pairs = zip(prediction.classes, prediction.probabilities, strict=True)
        answer = "  ".join(f"{name} {100 * share:.1f} %" for name, share in pairs)
        table.add_row(prediction.image, f"cannot be used: {prediction.unusable}" if prediction.unusable else answer)
    return table


def export_table(found: Export) -> RenderableType:
    """Return what was written, how far it agrees with the original, and how fast both are."""
    agreement, opset = found.agreement, f", opset {found.opset}" if found.opset else ""
    headline = Text(f"{found.file} ({found.format}{opset}, {found.bytes:,} bytes, run by {found.runtime})")
    agreed = Text(
        f"the same class on all {agreement.images:,} images, scores within {agreement.difference:.1e} of the largest "
        f"(allowed {agreement.tolerance:.0e})",
        style="bold",
    )
    table = Table(box=None, pad_edge=False)
    for column in ("batch", "original ms", "quartiles", "exported ms", "quartiles", "runs"):
        table.add_column(column, justify="right")
    for row in found.latency:
        pairs = (row.original_quartiles_ms, row.exported_quartiles_ms)
        before, after = (f"{low:.2f}–{high:.2f}" for low, high in pairs)
        table.add_row(
            str(row.batch), f"{row.original_ms:.2f}", before, f"{row.exported_ms:.2f}", after, str(row.runs)
        )  # fmt: skip
    left = f"; {found.norms_left} norms could not be folded" if found.norms_left else ""
    threads = Text(f"medians, by turns, threads: {found.threads}{left}")
    return Group(headline, agreed, table, threads, *(Text(note) for note in found.notes))


def taken_for(found: Evaluation, index: int) -> str:
    """Return the class that the images of a class are most often taken for, and how many are; empty without any."""
    others = [(count, other) for other, count in enumerate(found.confusion[index]) if other != index and count]
    if not others:
        return ""
    count, other = max(others)
    return f"{found.classes[other].name} ({count:,})"
