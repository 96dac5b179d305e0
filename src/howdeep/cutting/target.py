"""A trained network, cut into a run folder that trains, evaluates, dissects and exports like any other."""

import json
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console

from howdeep import checkpoints, runs
from howdeep import device as devices
from howdeep.cutting.cut import Tell, cut
from howdeep.cutting.frontier import Frontier, answers_of, baseline, effect_between, scores_of
from howdeep.cutting.kept import Kept, require_same
from howdeep.cutting.named import named_units
from howdeep.cutting.options import CutOptions, cut_images, cut_samples, test_images
from howdeep.cutting.records import Cut, Test
from howdeep.cutting.run import written
from howdeep.data import Dataset
from howdeep.dissect.subject import prepared
from howdeep.errors import UserError
from howdeep.keys import work_key
from howdeep.records import from_json, tagged, to_json
from howdeep.runs import provenance
from howdeep.stopwatch import fastest_threads, threads_of
from howdeep.targets import Target, open_data_for
from howdeep.training.interrupt import stopped
from howdeep.training.step import Arithmetic, place

PURPOSES = {
    "calibration": "units are chosen on",
    "evaluation": "errors are measured on",
    "statistics": "norm statistics are those of",
}
RECORD = "cut.json"
"""What was cut, in the folder of the cut network."""


def cut_target(
    target: Target, options: CutOptions, *, say: Tell, console: Console, doing: Tell = lambda _: None
) -> tuple[Cut, dict, Kept]:
    """Cut a trained network, write it into a run folder if that was asked for, and fine-tune it there.

    Args:
        target: The network.
        options: How.
        say: Receives remarks.
        console: Where the lines of the fine-tuning go, and progress if it is a terminal.
        doing: Receives what is being done, in a few words, many times; a KeyboardInterrupt that it raises stops.

    Returns:
        What was done, the record of it with where it comes from, and what was kept meanwhile, to be removed once the
        record is written.

    Raises:
        UserError: The options, the data or the folder are not usable, no cut holds the budget, or a unit cannot go.
        Stopped: An interrupt arrived; the same command goes on.
    """
    where, place = devices.pick(options.device), _kept_place(options)
    if options.out is None or not (options.out / RECORD).is_file():
        # Before the data are read, which can take minutes.
        _check_place(options)
        named_units(target.chain, options.remove)
    goes_on = "the same command goes on" if place else "with --out RUN or --json FILE the same command would go on"
    with stopped(goes_on):
        doing("reading the data")
        dataset = open_data_for(target, options.data, skip_broken=options.skip_broken, say=say)
        asked = replace(options, remove=tuple(sorted(options.remove)))  # in whatever order they are named
        key = work_key(asked, where, target=target, splits=[dataset.train, dataset.validation, dataset.test])
        if options.out is not None and (done := _finished(options.out, key)) is not None:
            say(f"{options.out} is finished; nothing to do")
            return from_json(Cut, done), done, Kept(place)
        kept = Kept.open(place, key)
        found = _cut(target, options, dataset, kept, where, console, doing)
    origin = {"target": target.name, "data": options.data, "split": options.split, "key": key, **provenance(where)}
    samples = {purpose: to_json(which) for purpose, which in cut_samples(options, dataset).items()}
    parts = {**to_json(found), "kept": found.kept, **origin, "data_notes": dataset.notes, "samples": samples}
    record = tagged("cut", parts)
    if options.out is not None:
        checkpoints.write_whole(options.out / RECORD, runs.as_json(record))
    return found, record, kept


def _cut(
    target: Target, options: CutOptions, dataset: Dataset, kept: Kept, where: torch.device, console: Console,
    doing: Tell,
) -> Cut:  # fmt: skip
    chain = place(target.chain, Arithmetic("fp32", "channels_last"), where)
    images = cut_images(target, options, dataset, where)
    first = images.calibration[0].images
    threads = kept.result("threads", lambda: fastest_threads(chain, lambda: first, options.threads, where))
    with threads_of(threads):
        smaller, found = cut(
            chain, images, budget=options.budget, remove=options.remove, threads=options.timed_threads,
            precision=options.precision, kept=kept, console=console, doing=doing,
        )  # fmt: skip
    told = tuple(f"{PURPOSES[purpose]} {which}" for purpose, which in cut_samples(options, dataset).items())
    found = replace(found, notes=(*found.notes, *told))
    if dataset.train is None:
        found = replace(found, notes=(*found.notes, "no training images: statistics are those of the calibration"))
    if found.chosen is None:
        return found
    if options.out is not None:
        doing("writing the run folder")
        smaller, found = written(target, options, dataset, found, smaller, Frontier(chain, images, kept), console)
    test = test_images(target, options, dataset, where)
    if test is None:
        return found
    doing("measuring the cut network")
    few = images.calibration[0].images[:32]
    with threads_of(threads):
        before, after = (prepared(one, few, precision="fp32", device=few.device).chain for one in (chain, smaller))
        answers = answers_of(before, test)
        effect = effect_between(scores_of(after, test), answers)
    return replace(found, test=Test(original=baseline(answers), cut=effect))


def _finished(out: Path, key: dict) -> dict | None:
    """Return the record of a cut that is finished in a folder.

    Raises:
        UserError: It is another one.
    """
    if not (out / RECORD).is_file():
        return None
    record = json.loads((out / RECORD).read_bytes())
    require_same(out, record["key"], key)
    return record


def _kept_place(options: CutOptions) -> Path | None:
    """Return the file where finished steps are kept: beside the run folder, or beside the JSON."""
    beside = options.out or options.place
    return beside and beside.with_name(f"{beside.name}.unfinished-cut.json")


def _check_place(options: CutOptions) -> None:
    """Refuse a folder that is neither free nor the unfinished cut of this very command.

    Raises:
        UserError: It is something else.
    """
    out, place = options.out, _kept_place(options)
    if out is None or (place is not None and place.exists() and runs.is_run(out)):
        return
    if runs.is_run(out):
        raise UserError(f"--out {out} is a run already; nothing was changed, name another")
    runs.check_free(out)
