"""Tables of what depth costs, of searches over it, and of cuts."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import astuple, replace
from typing import TYPE_CHECKING

from howdeep.show.tables import CHOSEN, Table, all_of
from howdeep.util.intervals import of_share
from howdeep.util.text import (
    NONE,
    change_text,
    counted,
    fixed,
    listed,
    number,
    percent_text,
    seconds_text,
    sentence,
    short,
    whole,
)

if TYPE_CHECKING:
    from howdeep.analysis.effects import Effect
    from howdeep.costs.cost import Cost, DepthCost, Ladder
    from howdeep.costs.predicting import Costs
    from howdeep.costs.scaling import Paper
    from howdeep.cutting.records import Cut, Size
    from howdeep.search.degradation import Degradation, FamilyResult
    from howdeep.search.diagnosis import Point as LadderPoint
    from howdeep.search.fit import Fit
    from howdeep.search.transfer import Probed, Start, Transfer

NAMED = 10
"""Units that are named at most."""


def cost_table(record: Cost, *, wide: bool = False) -> Table:
    """Return all ladders, and training on many devices."""
    ladders = [ladder_table(ladder, wide=wide) for ladder in record.ladders]
    first, *others = [*ladders, *(scaling_table(paper, wide=wide) for paper in record.scaled)]
    return replace(first, below=[*first.below, *others])


def ladder_table(ladder: Ladder, *, wide: bool = False) -> Table:
    """Return what is counted, and what is measured and predicted; wide, both in one grid."""
    if wide:
        return replace(_measured(ladder, wide), title=ladder.finding, summary=f"{ladder.title}: all depths")
    return replace(_counted(ladder), title=ladder.finding, below=["", _measured(ladder, wide)])


def _counted(ladder: Ladder) -> Table:
    """Return what needs no measurement, to the last digit where that fits."""
    expects = ladder.survival != "constant"
    rows, depths = [], [(whole(one.depth), "", one.counts) for one in ladder.depths]
    for name, plus, counts in [*depths, ("one more*", "+", ladder.one_more)]:
        exact = (whole(count) for count in (counts.units, counts.parameters, counts.macs))
        rounded = map(short, (counts.flops, counts.training_macs, counts.expected_training_macs)[: 2 + expects])
        rows.append((name, *(plus + count for count in (*exact, *rounded))))
    heads = ["layers", "units", "parameters", "MACs", "FLOPs", "training\nMACs", "expected\nMACs"]
    return Table(heads=heads[: 6 + expects], rows=rows)


def _measured(ladder: Ladder, wide: bool) -> Table:
    """Return what is measured and predicted; wide, beside what is counted."""
    expects = ladder.survival != "constant"
    rows = [row for one in ladder.depths for row in _depth_rows(one, wide, expects)]
    if ladder.one_more_costs:
        more = (cell if cell == NONE else f"+{cell}" for cell in _costs(ladder.one_more_costs))
        rows.append(("one more*", "predicted", *[""] * (3 * wide), *more, *[""] * expects))
    counts = ["units", "parameters", "MACs"] if wide else []
    costs = ["latency\nms", "inference\nms/image", "training\nms/image", "memory\nMB", "memory\nckpt MB"]
    heads = ["layers", "", *counts, *costs, *["expected\nms/image"] * expects]
    notes = [
        "* a unit in each stage of the deepest; FLOPs = 2 · MACs; training = 3 forward passes",
        f"latency: one image, threads: {ladder.threads}, fp32; inference: batch of {ladder.batch_size}, fp32;"
        f" {ladder.size}×{ladder.size} pixels",
        f"training: batch of {ladder.batch_size}, {ladder.precision}, {ladder.memory_format}; medians of the quietest"
        f" of {ladder.rounds} rounds",
        "memory: peak of training: weights, gradients, momentum, activations, not torch;",
        "ckpt: the same with --checkpointing",
    ]
    if ladder.fitted_on:
        notes.append(f"fitted on {listed(ladder.fitted_on)}")
    if expects:
        notes.append(f"expected: of training under survival {ladder.survival}; time in proportion to MACs")
    return Table(heads=heads, text=(0,), rows=rows, below=notes)


def _depth_rows(cost: DepthCost, wide: bool, expects: bool) -> list[tuple[str, ...]]:
    """Return what was measured, what was predicted and the error of that; a terminal says the depth once."""
    numbers: list[tuple[str, Sequence[str]]] = []
    if cost.measured:
        numbers.append(("measured", _costs(cost.measured)))
    if cost.predicted:
        numbers.append(("fitted" if cost.fitted else "predicted", _costs(cost.predicted)))
    if cost.error_percent:
        # Adding 0.0 makes a rounded −0.0 a 0.0.
        errors = [NONE if value is None else f"{round(value, 1) + 0.0:+.1f} %" for value in astuple(cost.error_percent)]
        numbers.append(("error", errors))
    counts = (whole(cost.counts.units), short(cost.counts.parameters), short(cost.counts.macs)) if wide else ()
    depth, expected, rows = whole(cost.depth), number(cost.expected_training_ms, zeros=True), []
    for word, cells in numbers:
        rows.append((depth, word, *counts, *cells, *[expected] * expects))
        depth, expected = depth if wide else "", ""
    return rows


def _costs(costs: Costs) -> list[str]:
    *times, memory, checkpointed = astuple(costs)
    peaks = (NONE if peak is None else f"{peak / 1e6:,.0f}" for peak in (memory, checkpointed))
    return [*(number(time, zeros=True) for time in times), *peaks]


def scaling_table(paper: Paper, *, wide: bool = False) -> Table:
    """Return the formula with its numbers, and one row per number of nodes."""
    minutes = paper.rows[0].seconds[0] < 36_000 and not wide
    length, unit = (60.0, "minutes") if minutes else (3600.0, "hours")
    rows = []
    for row in paper.rows:
        step, duration = _between(row.step_seconds, 1000.0), _between(row.seconds, 1 / length)
        nodes, sent = f"{row.nodes:,}×{row.devices // row.nodes}", f"{row.traffic_bytes / 1e6:.0f}"
        reduced = number(1000 * row.reduce_seconds, zeros=True)
        rows.append((nodes, whole(row.batch_size), sent, reduced, step, _efficiency(row.efficiency), duration))
    last, job = paper.rows[-1], paper.job
    total = f"{_between(last.seconds, 1 / length)} {unit} on {last.devices:,} devices"
    return Table(
        title=f"{paper.network}, {job.images:,} images, {job.epochs:g} epochs: {total},"
        f" efficiency {_efficiency(last.efficiency)} % (on paper)",
        lines=[paper.formula, ""],
        heads=["nodes", "batch", "sent MB", "reduce ms", "step ms", "efficiency %", unit],
        rows=rows,
        summary=f"{paper.network} on up to {paper.cluster.devices:,} devices",
    )


def _between(ends: tuple[float, float], factor: float) -> str:
    first, last = (number(factor * end, zeros=True) for end in ends)
    return first if first == last else f"{first}–{last}"


def _efficiency(ends: tuple[float, float]) -> str:
    high, low = (f"{100 * end:.0f}" for end in ends)
    return high if high == low else f"{low}–{high}"


def degradation_table(ladder: Degradation, *, wide: bool = False) -> Table:
    """Return one row per family and depth, and the diagnoses with their evidence; wide, one row per run."""
    if wide:
        return _runs(ladder)
    rows = [_depth(ladder, family, point) for family in ladder.families for point in family.points]
    count, means = len(ladder.seeds), "errors of one seed ± binomial standard errors"
    if count > 1:
        means = f"errors over {count} seeds ± standard errors"
    conditions = [f"{ladder.data}, equal {ladder.equal}: {means}"]
    if errors := next((run.errors for run in ladder.runs if run.errors is not None), None):
        training = f"{errors.training_images:,} training images, not augmented"
        conditions.append(f"(final networks, {training}; {errors.validation_images:,} of validation)")
    verdicts = [f"{one.family}: {one.diagnosis.headline}\n  {one.diagnosis.evidence}" for one in ladder.families]
    heads = ["family", "layers", "training %", "validation %", "gap", "epochs", "seconds", ""]
    return Table(lines=conditions, heads=heads, text=(0,), rows=rows, below=["", *verdicts])


def _depth(ladder: Degradation, family: FamilyResult, point: LadderPoint) -> tuple[str, ...]:
    own = [run for run in ladder.runs if (run.family, run.depth) == (family.family, point.depth)]
    epochs, seconds = (statistics.fmean(getattr(run, name) for run in own) for name in ("epochs", "seconds"))
    mark = "enough" if point.depth == family.diagnosis.enough else ""
    mark = f"{point.failed} diverged" if point.failed else mark
    errors = (NONE if one is None else str(one) for one in (point.training, point.validation, point.gap))
    took = fixed(seconds, 1) if seconds < 100 else f"{seconds:,.0f}"
    name = family.family if point is family.points[0] else ""
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
    return Table(heads=heads, text=(0, 1), rows=rows, summary=all_of(len(rows), len(rows), "runs"))


def fit_table(fit: Fit, *, wide: bool = False) -> Table:
    """Return how deep, why, and what deeper and shallower networks cost and brought; wide, round by round."""
    if wide:
        return _rounds(fit)
    told = [one for one in fit.dropped if one.needed is not None]
    hidden = len(fit.dropped) - len(told)
    rows = []
    for one in fit.candidates:
        training, mark = (NONE, NONE, NONE), "diverged" if one.failed else ""
        if one.rounds:
            last = one.rounds[-1]
            training = fixed(last.validation_error_percent), seconds_text(last.seconds), f"{last.epochs:.1f}"
        costs = fixed(one.costs.latency.median_ms), whole(one.costs.parameters)
        mark = "← selected" if one.costs.network == fit.network else mark
        rows.append((one.costs.network, *training, *costs, mark))
    return Table(
        title=f"take {fit.network}: {fit.depth} layers",
        lines=[*_answer(fit), "", sentence(fit.verdict.finding), f"{CHOSEN} {fit.verdict.advice}", ""],
        heads=["network", "error %", "time", "epochs", "latency ms", "parameters", ""],
        text=(0,),
        rows=rows,
        below=[
            "error: validation, at the end of its last round; time: training until then",
            *(f"left out: {one.network}, {one.budget} budget: {one.reason}" for one in told),
            *([f"… and {hidden} deeper ones"] if hidden else []),
        ],
    )


def _answer(fit: Fit) -> list[str]:
    """Return the errors of the network that was chosen, its latency, and what was spent."""
    low, high = fit.verdict.depths
    family = sum(one.costs.family == fit.family and bool(one.rounds) for one in fit.candidates)
    between = "its neighbours in depth did worse" if family > 1 else "no other depth was tried"
    between = f"{low} to {high} layers cannot be told apart" if low != high else between
    first, third = fit.latency.quartiles_ms
    spent = f"{seconds_text(fit.spent_seconds)} of {seconds_text(fit.budgets.train_seconds)} spent"
    lines = [
        f"  validation error {percent_text(fit.validation_error_percent, fit.validation_images)}, n ="
        f" {fit.validation_images:,}; the best of {len(fit.candidates)}, so a little too good",
        f"  latency {fit.latency.median_ms:.2f} ms (quartiles {first:.2f}–{third:.2f}), one image, one thread",
        f"  {between}; {fit.epochs:.3g} epochs; {spent}",
        f"  run folder: {fit.run}",
    ]
    if fit.test is None:
        return lines
    return [f"  test error {percent_text(fit.test.error_percent, fit.test.n)}, n = {fit.test.n:,}", *lines]


def _rounds(fit: Fit) -> Table:
    rows = []
    for one in fit.candidates:
        costs = whole(one.costs.depth), short(one.costs.parameters), number(one.costs.latency.median_ms)
        if not one.rounds:
            rows.append((one.costs.network, *costs, *[NONE] * 4))
        for each in one.rounds:
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
        heads=["network", "layers", "parameters", "latency ms", "seconds", "epochs", "training %", "validation %"],
        text=(0,),
        rows=rows,
        below=[dropped] if fit.dropped else [],
        summary=f"{all_of(total, total, 'networks')}, round by round",
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
            "validation errors; frozen: a classifier alone was fitted; one training each",
            *(f"left out: {one.network} at {one.size}, {one.budget} budget: {one.reason}" for one in transfer.dropped),
            "",
            _tested(transfer),
        ],
    )


def _taken(transfer: Transfer) -> list[str]:
    """Return the errors of the network that is taken, its costs, and what was spent."""
    first, third = transfer.latency.quartiles_ms
    latency = f"latency {transfer.latency.median_ms:.2f} ms (quartiles {first:.2f}–{third:.2f}), one image, one thread"
    spent = f"{seconds_text(transfer.spent_seconds)} of {seconds_text(transfer.budgets.train_seconds)} spent"
    n, last = transfer.validation_images, transfer.trainings[-1]
    own = (transfer.chosen.network, transfer.chosen.size)
    end = next(one.probe.end for one in transfer.probed if (one.network, one.size) == own)
    return [
        f"  test error {percent_text(transfer.test.error_percent, transfer.test.n)}, n = {transfer.test.n:,}",
        f"  validation error {percent_text(transfer.validation_error_percent, n)}, n = {n:,}; chosen by it,",
        f"  so a little too good; nearest neighbour {end.neighbour_error_percent:.1f} %, guessing"
        f" {transfer.guessing_percent:.1f} %",
        f"  {latency}",
        f"  {whole(transfer.parameters)} parameters; {last.epochs:.3g} epochs; {spent}",
        f"  run folder: {transfer.run}",
    ]


def _trained_error(transfer: Transfer, start: Start) -> float | None:
    """Return the validation error that the training of a start has reached, of several the last one."""
    errors = [one.validation_error_percent for one in transfer.trainings if one.start == start and one.steps]
    return errors[-1] if errors else None


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
        summary=all_of(len(transfer.trainings), len(transfer.trainings), "trainings"),
    )
    return Table(
        heads=["network", "size", "depth", "frozen %", "95 %", "trained %", "1-NN %", "ms", "parameters", "MACs"],
        text=(0, 2),
        rows=every,
        below=[trained, _tested(transfer)],
        summary=f"All {len(every):,} networks, size by size and depth by depth",
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
        summary=all_of(len(rows), len(rows), f"networks on the test split (n = {n:,})"),
    )


def cut_table(cut: Cut, *, wide: bool = False) -> Table:
    """Return the network before, one row per cut, and what was done; wide, also the order in which units go."""
    if cut.head is not None:
        return _first_table(cut, wide=wide)
    base, total = cut.baseline, len(cut.points)
    error, (best, other) = fixed(base.error_percent), (" (kept)", "") if wide else ("*", " ")
    uncut = ("0" if wide else "", *_size(cut.original), error, *([error, error, ""] if wide else ["", ""]), "")
    rows: list[tuple[str, ...]] = [uncut]
    for point in cut.points:
        first = str(point.out) if wide else CHOSEN * (point.out == cut.chosen)
        ways = [one for one in (point.cut, point.recalibrated, point.refitted) if one is not None]
        errors = (fixed(one.error_percent) + (best if one is point.best else other) for one in ways)
        change = [f"{point.best.change:+.2f}"] * wide
        interval = change_text(point.best.change_low, point.best.change_high)
        rows.append((first, *_size(point.size), *errors, *change, interval))
    errors = ["error: cut", "recalibrated", "refitted", "change"] if wide else ["cut", "norms", "refit"]
    heads = ["out" if wide else "", "units", "MACs", "ms", "quartiles", *errors, "change, 95 %"]
    return Table(
        title=cut.finding,
        lines=[f"uncut: {percent_text(base.error_percent, base.n)}, n = {base.n:,}"],
        heads=heads,
        rows=rows,
        below=[_order(cut)] if wide else [*_decisions(cut), *_chosen(cut), *cut.notes],
        summary=f"The network, and {all_of(total, total, 'cuts').lower()}",
    )


def _first_table(cut: Cut, *, wide: bool) -> Table:
    """Return the whole network and its first units under every head that was tried."""
    base, read = cut.baseline, {"pooled": "averages", "kept": "of the head"}
    heads = ["", "classifier reads", "units", "MACs", "ms", "quartiles", "error", "change", "change, 95 %"]
    rows = [("", "whole network", *_size(cut.original), fixed(base.error_percent), "", "")]
    for point in cut.points:
        assert point.head is not None
        reads, effect = f"{point.head.features:,} {read[point.head.name]}", point.cut
        change = f"{effect.change:+.2f}", change_text(effect.change_low, effect.change_high)
        marked = CHOSEN * (point is cut.choice)
        rows.append((marked, reads, *_size(point.size), fixed(effect.error_percent), *change))
    at = heads.index("change")
    return Table(
        title=cut.finding,
        lines=[f"whole, with a new classifier too: {percent_text(base.error_percent, base.n)}, n = {base.n:,}"],
        heads=heads if wide else heads[:at] + heads[at + 1 :],
        text=(0, 1),
        rows=rows if wide else [row[:at] + row[at + 1 :] for row in rows],
        below=[]
        if wide
        else [
            *_decisions(cut),
            _out(cut),
            "classifier reads: averages over space, or what the old head makes of them",
            f"the head with fewer errors on {cut.calibration_images:,} images or, if that may be chance, the faster",
            f"regression on {cut.classifier_images:,} training images; ms of one image, threads: {cut.threads}",
            *cut.notes,
        ],
        summary="The network, and its first units",
    )


def _size(size: Size) -> tuple[str, str, str, str]:
    first, third = size.latency.quartiles_ms
    return whole(size.units), short(size.macs), f"{size.latency.median_ms:.3g}", f"{first:.3g}–{third:.3g}"


def _decisions(cut: Cut) -> list[str]:
    """Return whether recalibration and fine-tuning are kept, and the test split."""
    lines = []
    if (point := cut.choice) is not None:
        for name, way in (("batch norm recalibrated", "recalibrated"), ("units behind gaps refitted", "refitted")):
            if (repaired := getattr(point, way)) is not None:
                lines.append(f"{name}: {_kept(point.kept == way, repaired, point.cut)}")
        if cut.tuned is not None:
            # Steps are whole: the last one may lie behind the epochs that were asked for.
            all_of_them = max(cut.epochs, cut.tuned_epoch or 0)
            epoch = f", epoch {cut.tuned_epoch:.4g} of {all_of_them:.4g}" if cut.tuned_epoch else ""
            lines.append(f"fine-tuned{epoch}: {_kept(cut.tuned_kept, cut.tuned, point.best)}")
            lines.append(f"after fine-tuning: {_change(cut.tuned, cut.baseline.n)}")
    if cut.test is not None:
        original = cut.test.original
        before = f"{percent_text(original.error_percent, original.n)}, n = {original.n:,}"
        uncut = "uncut" if cut.head is None else "whole"
        lines += [f"test split, {uncut}: {before}", f"test split, cut: {_change(cut.test.cut, original.n)}"]
    return lines


def _chosen(cut: Cut) -> list[str]:
    """Return which units went, by what they were chosen, and how to read the numbers."""
    named = cut.chosen is not None and not cut.budget.given
    chosen = "units as named" if named else f"units chosen on {cut.calibration_images:,} images"
    return [
        _out(cut),
        "error in %: as cut, with norms recalibrated, with the units behind gaps refit; change in points",
        f"* counts, the best on {cut.calibration_images:,} images: fewer errors, or no more and less cross-entropy",
        f"{chosen}, statistics from {cut.statistics_images:,}, refitted on {cut.refitting_images:,}; ms of one image,"
        f" threads: {cut.threads}",
    ]


def _out(cut: Cut) -> str:
    """Return the names of the first units that go."""
    out = [removal.name for removal in cut.order[: cut.chosen]]
    more = f" and {len(out) - NAMED} more" if len(out) > NAMED else ""
    return f"{'out' if cut.chosen is not None else 'first out'}: {', '.join(out[:NAMED]) or 'none'}{more}"


def _kept(kept: bool, new: Effect, old: Effect) -> str:
    return f"{'kept' if kept else 'discarded'} ({new.error_percent:.2f} % against {old.error_percent:.2f} %)"


def _change(effect: Effect, n: int) -> str:
    interval = change_text(effect.change_low, effect.change_high)
    return f"{percent_text(effect.error_percent, n)}, {effect.change:+.2f} points (95 %: {interval})"


def _order(cut: Cut) -> Table:
    rows = [(one.name, str(place), str(one.index), number(one.distance)) for place, one in enumerate(cut.order, 1)]
    heads = ["name", "place", "unit", "distance without it"]
    return Table(heads=heads, text=(0,), rows=rows, summary=f"The order of {counted(len(rows), 'unit')}")
