"""How deep, from published weights: every network is probed at every depth, the best ones are trained, one is taken.

probe, a quarter of the time  →  front of error and latency  →  finalists  →  train  →  test once
"""

from collections.abc import Sequence
from functools import partial

from rich.console import Console

from howdeep.analysis.evaluation import standard_error_percent
from howdeep.runs import folder as runs
from howdeep.runs.resume import Journal
from howdeep.runtime import device as devices
from howdeep.search.answer import FinalError
from howdeep.search.answered import answered, write_answer
from howdeep.search.entrants import PROBE, entrants
from howdeep.search.finalists import Candidate, candidates_of, finalists, verdict
from howdeep.search.options import FitOptions
from howdeep.search.pacing import Pacing
from howdeep.search.phases import Clock
from howdeep.search.probing import Probing
from howdeep.search.transfer import Other, Probed, Transfer
from howdeep.search.tuning import Done, Tuning, final_error
from howdeep.training.log import print_line
from howdeep.util.text import Report

STEPS = "published"
"""What the finished steps of the search are called."""


def published(options: FitOptions, *, console: Console | None = None, since: float | None = None) -> Transfer:
    """Return which published network to take for some data and budgets, how much of it, and train it.

    Args:
        options: What is asked.
        console: Where lines and progress go; None is standard error.
        since: When the time of all this began, by ``time.perf_counter()``; None is now.

    Returns:
        The answer, which is also written to ``answer.json`` in the folder.

    Raises:
        UserError: An option, weights or the data are not usable, another process writes there, or no network meets the
            budgets; the least that would do is named.
        Stopped: A signal arrived; the same options resume.
    """
    console = console or Console(stderr=True)
    report: Report = partial(print_line, console)
    everyone = entrants(options, report)

    def search(clock: Clock) -> Transfer:
        with devices.repeatable():
            return _answer(Probing(options, everyone, clock, report))

    found = answered(Transfer, options, STEPS, console, lambda: everyone[0].dataset, search, since)
    assert found is not None, "one process works on it"
    return found


def _answer(probing: Probing) -> Transfer:
    """Probe, train and test; return the answer, once it is written."""
    probing.begin()
    options, probed = probing.options, probing.probed()
    candidates = candidates_of(probed)
    found = finalists(candidates, options.budgets)
    probing.require_better_than_guessing(found[0])
    for one, what in zip(found, ("lowest error", "fastest that is not worse beyond chance"), strict=False):
        probing.report(f"finalist: {one.text}: {one.error:.1f} % before training, {one.ms:.3g} ms ({what})")
    done = Tuning(Pacing(probing, found)).done()
    untrained = None if found[0].start in [one.start for one in done.trainings] else found[0]
    chosen, last, entrant = done.chosen, done.trainings[-1], probing.entrant(done.chosen.start)
    others, dataset, notes = _untrained(probing, probed, done), entrant.dataset, list(entrant.dataset.notes)
    if probing.images.training < probing.there.training:
        notes.append(f"networks are probed on a stratified sample of the training images: {probing.images.training:,}")
    answer = Transfer(
        chosen=chosen.start,
        run=last.run,
        validation_error_percent=last.validation_error_percent,
        validation_images=last.validation_images,
        test=final_error(done.test),
        latency=entrant.latency(runs.open_run(last.run).chain(lambda _: None), probing.device),
        parameters=chosen.depth.parameters,
        macs=chosen.depth.macs,
        spent_seconds=probing.clock.spent,
        budgets=options.budgets,
        verdict=verdict(chosen, candidates, options.budgets, last, done.needed_seconds, untrained=untrained),
        guessing_percent=probing.guessing,
        probed=tuple(probed),
        dropped=probing.dropped,
        finalists=tuple(one.start for one in found),
        trainings=done.trainings,
        others=(*done.others, *others),
        notes=tuple(notes),
    )
    write_answer(answer, options, dataset, probing.device)
    for one in probing.entrants:
        Journal.open(one.folder / PROBE, {}).remove()
    return answer


def _untrained(probing: Probing, probed: Sequence[Probed], done: Done) -> list[Other]:
    """Return the test errors of every whole network under a classifier alone, at the size that suits it best.

    Of the network that is recommended also what the nearest training image gets wrong, by what all of it computes.
    """
    others = []
    for name in dict.fromkeys(one.network for one in probed):
        ends = [Candidate(one, one.probe.end) for one in probed if one.network == name]
        best = min(ends, key=lambda one: one.error)
        tested = probing.probe(probing.entrant(best.start), test=True).test
        assert tested is not None, "the test split was asked for"
        percents = {"a classifier alone": tested.end_error_percent}
        if best.start == done.chosen.start and not done.trainings[-1].steps:
            percents.clear()  # it is what is recommended
        if name == done.chosen.start.network:
            percents["nearest neighbour"] = tested.end_neighbour_error_percent
        for how, percent in percents.items():
            error = FinalError(percent, standard_error_percent(percent / 100, tested.n), tested.n)
            others.append(Other(what=f"{best.text}, {how}", latency=best.depth.latency, test=error))
    return others
