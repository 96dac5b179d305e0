"""The answer of a fit on a terminal: the recommendation first, then the evidence."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from howdeep.search.answer import Candidate
from howdeep.search.candidates import Dropped
from howdeep.search.fit import Fit
from howdeep.util.text import percent_text, seconds_text


def fit_table(found: Fit) -> RenderableType:
    """Return how deep, why, and what deeper and shallower networks cost and brought."""
    return Group(
        Text(f"take {found.network}: {found.depth} layers", style="bold"),
        *(Text(f"  {line}") for line in _facts(found)),
        Text(f"  run folder: {found.run}", no_wrap=True, overflow="ignore"),
        Text(),
        Text(found.verdict.finding[:1].upper() + found.verdict.finding[1:] + "."),
        Text(f"→ {found.verdict.advice}", style="bold"),
        Text(),
        _networks(found),
        Text("error: validation, at the end of its last round; time: training until then"),
        *_left_out(found),
    )


def _facts(found: Fit) -> list[str]:
    low, high = found.verdict.depths
    between = f"{low} to {high} layers cannot be told apart" if low != high else "no other depth does as well"
    first, third = found.latency.quartiles_ms
    lines = [
        f"validation error {percent_text(found.validation_error_percent, found.validation_images)}, n ="
        f" {found.validation_images:,}; the best of {len(found.candidates)}, so a little too good",
        f"latency {found.latency.median_ms:.2f} ms (quartiles {first:.2f}–{third:.2f}), one image, one thread",
        f"{between}; {found.epochs:.3g} epochs; {seconds_text(found.spent_seconds)} of"
        f" {seconds_text(found.budgets.train_seconds)} spent",
    ]
    if found.test is not None:
        test = found.test
        lines.insert(0, f"test error {percent_text(test.error_percent, test.n)}, n = {test.n:,}")
    return lines


def _networks(found: Fit) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("network", "error %", "time", "epochs", "latency ms", "parameters", ""):
        table.add_column(column, justify="left" if column in ("network", "") else "right", no_wrap=True)
    for one in found.candidates:
        table.add_row(*_row(one, chosen=one.costs.network == found.network))
    return table


def _row(one: Candidate, *, chosen: bool) -> tuple[str, ...]:
    costs = f"{one.costs.latency.median_ms:.2f}", f"{one.costs.parameters:,}"
    if not one.rounds:
        return one.costs.network, "–", "–", "–", *costs, "blew up" if one.failed else ""
    last = one.rounds[-1]
    mark = "← chosen" if chosen else "blew up" if one.failed else ""
    numbers = f"{last.validation_error_percent:.2f}", seconds_text(last.seconds), f"{last.epochs:.1f}"
    return one.costs.network, *numbers, *costs, mark


def _left_out(found: Fit) -> list[Text]:
    """Return one line per network that was measured and left out; the deeper ones go without saying."""
    told = [one for one in found.dropped if one.needed is not None]
    lines = [Text(f"left out: {_why(one)}") for one in told]
    hidden = len(found.dropped) - len(told)
    return [*lines, *([Text(f"… and {hidden} deeper ones")] if hidden else [])]


def _why(one: Dropped) -> str:
    return f"{one.network}, {one.budget} budget: {one.reason}"
