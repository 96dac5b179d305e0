"""Tables of searches: over depth, and over published networks."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from howdeep.show.tables import CHOSEN, Table, all_of
from howdeep.util.intervals import of_share
from howdeep.util.text import (
    NONE,
    fixed,
    listed,
    number,
    percent_text,
    seconds_text,
    sentence,
    short,
    whole,
)

NAMED = 3
"""Networks that were left out and are named."""

if TYPE_CHECKING:
    from howdeep.runtime.timing import Timing
    from howdeep.search.degradation import Degradation, FamilyResult
    from howdeep.search.diagnosis import Point as LadderPoint
    from howdeep.search.fit import Fit
    from howdeep.search.options import Budgets
    from howdeep.search.transfer import Probed, Start, Transfer


def degradation_table(ladder: Degradation, *, wide: bool = False) -> Table:
    """Return one row per family and depth, and the diagnoses with their evidence; wide, one row per run."""
    if wide:
        return _runs(ladder)
    rows = [_depth(ladder, family, point) for family in ladder.families for point in family.points]
    count, means = len(ladder.seeds), "errors of one seed ± half of the 95 % interval"
    if count > 1:
        means = f"errors over {count} seeds ± half of the 95 % interval"
    conditions = [f"{ladder.data}, equal {ladder.equal}: {means}"]
    if errors := next((run.errors for run in ladder.runs if run.errors is not None), None):
        training = f"{errors.training_images:,} training images, not augmented"
        conditions.append(f"(final networks, {training}; {errors.validation_images:,} of validation)")
    verdicts = [f"{one.name}: {one.diagnosis.headline}\n  {one.diagnosis.evidence}" for one in ladder.families]
    heads = ["family", "layers", "training %", "validation %", "gap", "epochs", "seconds", ""]
    return Table(lines=conditions, heads=heads, text=(0,), rows=rows, below=["", *verdicts])


def _depth(ladder: Degradation, family: FamilyResult, point: LadderPoint) -> tuple[str, ...]:
    place = (family.family, family.width, point.depth)
    own = [run for run in ladder.runs if (run.family, run.width, run.depth) == place]
    epochs, seconds = (statistics.fmean(getattr(run, name) for run in own) for name in ("epochs", "seconds"))
    mark = "enough" if point.depth == family.diagnosis.enough else ""
    mark = f"{point.failed} diverged" if point.failed else mark
    errors = (NONE if one is None else str(one) for one in (point.training, point.validation, point.gap))
    took = fixed(seconds, 1) if seconds < 100 else f"{seconds:,.0f}"
    name = family.name if point is family.points[0] else ""
    return name, whole(point.depth), *errors, f"{epochs:.4g}", took, mark


def _runs(ladder: Degradation) -> Table:
    rows = []
    for run in ladder.runs:
        errors = (NONE, NONE)
        if run.errors is not None:
            errors = fixed(run.errors.training_percent), fixed(run.errors.validation_percent)
        which = run.family, run.network, whole(run.depth), str(run.seed)
        rows.append((*which, *errors, number(run.epochs), f"{run.seconds:,.1f}"))
    heads = ["family", "network", "layers", "seed", "training %", "validation %", "epochs", "seconds"]
    return Table(heads=heads, text=(0, 1), rows=rows, summary=all_of(len(rows), len(rows), "run"))


def fit_table(fit: Fit, *, wide: bool = False) -> Table:
    """Return how deep and how wide, why, and what other networks cost and brought; wide, round by round."""
    if wide:
        return _rounds(fit)
    several = len({one.costs.family for one in fit.candidates}) > 1
    diverged = any(one.failed for one in fit.candidates)
    rows = []
    for one in fit.candidates:
        training, mark = (NONE,) * 4, "diverged" if one.failed else ""
        if (end := fit.end_of(one)) is not None:
            errors = fixed(end.train_error_percent, 1), fixed(end.validation_error_percent, 1)
            training = *errors, seconds_text(end.seconds), f"{end.epochs:.1f}"
        costs = number(one.costs.latency.median_ms, zeros=True), short(one.costs.parameters)
        first, *more = [*([one.costs.family] if several else []), whole(one.costs.depth), whole(one.costs.width)]
        first = f"{CHOSEN} {first}" if one.costs.network == fit.network else first
        rows.append((first, *more, *training, *costs, *([mark] if diverged else [])))
    columns = ["layers", "width", "train %", "val %", "time", "epochs", "ms", "parameters", *([""] if diverged else [])]
    return Table(
        title=f"take {fit.network}: {fit.size}",
        lines=[*_answer(fit), "", sentence(fit.verdict.finding), f"{CHOSEN} {fit.verdict.advice}", ""],
        heads=[*(["family"] if several else []), *columns],
        text=(0,) if several else (),
        rows=rows,
        below=[
            f"errors: at the end of its last round, {CHOSEN} of its final training; time: until then",
            *_left_out(fit),
        ],
    )


def _left_out(fit: Fit) -> list[str]:
    """Return the networks nearest to the budgets that they miss, and how many more there are."""
    missed = sorted(
        (one for one in fit.dropped if one.budget and one.needed is not None),
        key=lambda one: (one.budget != fit.verdict.limit, one.needed),
    )[:NAMED]
    others = len(fit.dropped) - len(missed)
    told = [f"left out: {one.network}, {one.budget} budget: {one.reason}" for one in missed]
    return [*told, *([f"… and {others} more networks of the plane"] if others else [])]


def _answer(fit: Fit) -> list[str]:
    """Return the errors of the network that was chosen, its latency, and what was spent."""
    spent = f"{seconds_text(fit.spent_seconds)} of {seconds_text(fit.budgets.train_seconds)} spent"
    chosen = next(one for one in fit.candidates if one.costs.network == fit.network)
    alike: list[str] = []
    if fit.verdict.alike:
        alike = [f"  after {seconds_text(chosen.rounds[-1].seconds)} each not told from {listed(fit.verdict.alike)}"]
    lines = [
        f"  validation error {percent_text(fit.validation_error_percent, fit.validation_images)}, n ="
        f" {fit.validation_images:,}; optimistic",
        *_latency(fit.latency, fit.budgets, chosen.costs.latency),
        *alike,
        f"  {fit.final.epochs:.3g} epochs; {spent}",
        f"  {fit.verdict.onward}",
        f"  run folder: {fit.run}",
    ]
    if fit.test is None:
        return lines
    return [f"  test error {percent_text(fit.test.error_percent, fit.test.n)}, n = {fit.test.n:,}", *lines]


def _latency(timing: Timing, budgets: Budgets, before: Timing) -> list[str]:
    """Return the latency of a network, and where it was measured; a budget that it held before, and not now, is named.

    Args:
        timing: That of the answer.
        budgets: What was allowed.
        before: What it took when it was chosen.
    """
    first, third = timing.quartiles_ms
    where = timing.aside or ", one thread"
    lines = [f"  latency {timing.median_ms:.2f} ms (quartiles {first:.2f}–{third:.2f}), one image{where}"]
    if budgets.latency_seconds is not None and timing.median_ms > (most := 1000 * budgets.latency_seconds):
        lines.append(f"  above the budget of {most:.4g} ms now; {before.median_ms:.2f} ms when it was chosen")
    return lines


def _rounds(fit: Fit) -> Table:
    rows = []
    for one in fit.candidates:
        sizes = whole(one.costs.depth), whole(one.costs.width)
        costs = *sizes, short(one.costs.parameters), number(one.costs.latency.median_ms)
        ends = [*one.rounds, *([fit.final] if one.costs.network == fit.network else [])]
        if not ends:
            rows.append((one.costs.network, *costs, *[NONE] * 4))
        for each in ends:
            errors = fixed(each.train_error_percent), fixed(each.validation_error_percent)
            rows.append((one.costs.network, *costs, f"{each.seconds:,.1f}", number(each.epochs), *errors))
    total = len(fit.candidates)
    dropped = Table(
        heads=["network", "budget", "reason"],
        text=(0, 1, 2),
        rows=[(one.network, one.budget, one.reason) for one in fit.dropped],
        summary=f"What was left out ({len(fit.dropped):,})",
    )
    return Table(
        heads=[
            "network",
            "layers",
            "width",
            "parameters",
            "latency ms",
            "seconds",
            "epochs",
            "training %",
            "validation %",
        ],
        text=(0,),
        rows=rows,
        below=[dropped] if fit.dropped else [],
        summary=f"{all_of(total, total, 'network')}, round by round",
    )


def transfer_table(transfer: Transfer, *, wide: bool = False) -> Table:
    """Return which published network is taken, why, and what the others cost and reached; wide, at every depth."""
    if wide:
        return _depths(transfer)
    named = {*transfer.finalists, transfer.chosen}
    rows = []
    for one in transfer.probed:
        for depth in one.probe.depths:
            start = one.start(depth)
            if depth.whole or start in named or depth is one.probe.lowest:
                mark = f"{CHOSEN} " if start == transfer.chosen else ""
                errors = fixed(depth.fitted.error_percent, 1), fixed(_trained_error(transfer, start), 1)
                size, ms = whole(one.size), number(depth.latency.median_ms, zeros=True)
                rows.append((f"{mark}{one.network}", size, start.depth, *errors, ms))
    return Table(
        title=f"take {transfer.chosen.text}",
        lines=[*_taken(transfer), "", sentence(transfer.verdict.finding), f"{CHOSEN} {transfer.verdict.advice}", ""],
        heads=["network", "size", "depth", "frozen %", "trained %", "ms"],
        text=(0, 2),
        rows=rows,
        below=[
            f"validation errors; frozen: a classifier alone was fitted; {_seeds(transfer)}",
            *(f"left out: {one.network} at {one.size}, {one.budget} budget: {one.reason}" for one in transfer.dropped),
            "",
            _tested(transfer),
        ],
        drop=(3, 1, 4),
    )


def _taken(transfer: Transfer) -> list[str]:
    """Return the errors of the network that is taken, its costs, and what was spent."""
    spent = f"{seconds_text(transfer.spent_seconds)} of {seconds_text(transfer.budgets.train_seconds)} spent"
    n, last = transfer.validation_images, transfer.trainings[-1]
    own = (transfer.chosen.network, transfer.chosen.size)
    probed = next(one for one in transfer.probed if (one.network, one.size) == own)
    chosen = next(depth for depth in probed.probe.depths if probed.start(depth) == transfer.chosen)
    return [
        f"  test error {percent_text(transfer.test.error_percent, transfer.test.n)}, n = {transfer.test.n:,}",
        f"  validation error {percent_text(transfer.validation_error_percent, n)}, n = {n:,}; chosen by it,",
        f"  so optimistic; nearest neighbour {probed.probe.end.neighbour_error_percent:.1f} %, guessing"
        f" {transfer.guessing_percent:.1f} %",
        *_latency(transfer.latency, transfer.budgets, chosen.latency),
        f"  {whole(transfer.parameters)} parameters; {last.epochs:.3g} epochs; {spent}",
        f"  run folder: {transfer.run}",
    ]


def _trained_error(transfer: Transfer, start: Start) -> float | None:
    """Return the validation error that the training of a start has reached, of several the last one."""
    errors = [one.validation_error_percent for one in transfer.trainings if one.start == start and one.steps]
    return errors[-1] if errors else None


def _seeds(transfer: Transfer) -> str:
    """Return how often networks were trained; of two seeds, what each gave, and whether both prefer the same one."""
    errors: dict[Start, dict[int, float]] = {}
    for one in transfer.trainings:  # the final one, which goes on from another, comes last
        errors.setdefault(one.start, {}).setdefault(one.seed, one.validation_error_percent)
    if len({one.seed for one in transfer.trainings}) == 1:
        return "one training each"
    told = [f"{start.text}: {' and '.join(fixed(one, 1) for one in each.values())} %" for start, each in errors.items()]
    better = {min(errors, key=lambda start: errors[start][seed]) for seed in (one.seed for one in transfer.trainings)}
    same = "the same one is better with both" if len(better) == 1 else "which one is better depends on the seed"
    return f"two seeds of a short cycle each: {'; '.join(told)}; {same}"


def _depths(transfer: Transfer) -> Table:
    def rows(one: Probed) -> list[tuple[str, ...]]:
        return [
            (
                one.network,
                whole(one.size),
                one.start(depth).depth,
                fixed(depth.fitted.error_percent),
                f"{depth.fitted.low:.1f}–{depth.fitted.high:.1f}",
                fixed(_trained_error(transfer, one.start(depth))),
                fixed(depth.neighbour_error_percent),
                number(depth.latency.median_ms, zeros=True),
                whole(depth.parameters),
                short(depth.macs),
            )
            for depth in one.probe.depths
        ]

    every = [row for one in transfer.probed for row in rows(one)]
    trained = Table(
        heads=["training", "steps", "epochs", "seconds", "before %", "validation %", "kept epoch"],
        text=(0,),
        rows=[
            (
                one.start.text,
                whole(one.steps),
                f"{one.epochs:.1f}",
                f"{one.seconds:.0f}",
                fixed(one.before_percent),
                fixed(one.validation_error_percent),
                number(one.kept_epoch),
            )
            for one in transfer.trainings
        ],
        summary=all_of(len(transfer.trainings), len(transfer.trainings), "training"),
    )
    return Table(
        heads=["network", "size", "depth", "frozen %", "95 %", "trained %", "1-NN %", "ms", "parameters", "MACs"],
        text=(0, 2),
        rows=every,
        below=[trained, _tested(transfer)],
        summary=f"{all_of(len(every), len(every), 'network')}, size by size and depth by depth",
    )


def _tested(transfer: Transfer) -> Table:
    """Return everything that read the test split."""
    n = transfer.test.n
    every = [(f"{CHOSEN} {transfer.chosen.text}", transfer.test.error_percent, transfer.latency)]
    every += [(one.what, one.test.error_percent, one.latency) for one in transfer.others]
    rows = []
    for what, percent, latency in every:
        low, high = of_share(percent, n)
        rows.append((what, fixed(percent, 1), f"{low:.1f}–{high:.1f}", number(latency.median_ms, zeros=True)))
    return Table(
        heads=["on the test split", "error %", "95 %", "ms"],
        text=(0,),
        rows=rows,
        summary=f"{all_of(len(rows), len(rows), 'network')} on the test split (n = {n:,})",
    )
