"""The run folder of a cut network: how it is built again, its weights, and how it is trained on."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import torch
from rich.console import Console

from howdeep.analysis.effects import Effect
from howdeep.analysis.inference import required_normalization
from howdeep.analysis.study import prepared
from howdeep.chain import Chain
from howdeep.cutting.cut import Tell, cut, named_units
from howdeep.cutting.frontier import Frontier, answers_of, baseline, effect_between, scores_of
from howdeep.cutting.options import CutOptions, cut_images, cut_samples, test_images
from howdeep.cutting.records import Cut, Test
from howdeep.data import Dataset, augmentation_record
from howdeep.data.recorded import recorded
from howdeep.runs import checkpoints
from howdeep.runs import folder as runs
from howdeep.runs.folder import provenance
from howdeep.runs.resume import Journal, files_of, options_key, require_same, work_key
from howdeep.runs.target import Target, open_data_for
from howdeep.runtime import device as devices
from howdeep.runtime.interrupt import stopped
from howdeep.runtime.precision import Arithmetic, best_of, place
from howdeep.runtime.timing import fastest_threads, threads_of
from howdeep.survival import Survival
from howdeep.training.config import TrainConfig
from howdeep.training.loop import train
from howdeep.training.precision import TrainingSteps, batch_shape, trials_of
from howdeep.training.state import Position
from howdeep.util.errors import UserError
from howdeep.util.records import from_json, tagged, to_json


def written(
    target: Target, options: CutOptions, dataset: Dataset, found: Cut, frontier: Frontier, console: Console,
) -> Cut:  # fmt: skip
    """Write the cut network into its run folder and fine-tune it there.

    Returns:
        What was found, with the network that the folder stands for, and what fine-tuning made of it.
    """
    assert options.out is not None
    smaller = found.chain
    assert smaller is not None
    config = _config(target, options)
    if runs.is_run(options.out):
        run = runs.open_run(options.out)
    else:
        earlier = target.run.images() if target.run else None
        record = _record(target, options, dataset, found, smaller, config, frontier.device)
        run = runs.create(options.out, record, recorded(dataset).after(earlier))
    if not checkpoints.list_checkpoints(run.checkpoints):
        tensors = {"weights": smaller.state_dict(), "momentum": {}}
        checkpoints.save(run.checkpoints, 0, tensors=tensors, state=Position().to_json())

    def standing() -> Chain:
        chain = run.chain(lambda line: console.print(line))
        return place(chain, Arithmetic("fp32", "channels_last"), frontier.device)

    if config is None:
        return replace(found, chain=standing())

    def better() -> Chain:
        if not _tuning(run, smaller, standing, frontier)["tuned_kept"]:
            checkpoints.save_only(run.best, 0, tensors={"weights": smaller.state_dict()}, state={"epoch": 0.0})
        return standing()

    train(config, options.out, console=console, dataset=dataset, chosen=better)
    chain, tuning = better(), _tuning(run, smaller, standing, frontier)
    tuned = from_json(Effect, tuning["tuned"])
    return replace(found, **{**tuning, "tuned": tuned, "epochs": options.epochs, "chain": chain})


def _tuning(run: runs.Run, smaller: Chain, trained: Callable[[], Chain], frontier: Frontier) -> dict:
    """Return what the best epoch made of a cut network, and whether it is kept: whether it helped."""

    def measured() -> dict:
        best = checkpoints.newest(run.best, lambda _: None)
        _, tuned, kept = frontier.effects(smaller, trained(), frontier.answers())
        return {"tuned": to_json(tuned), "tuned_epoch": best and best.state["epoch"], "tuned_kept": kept}

    return frontier.journal.result("fine-tuning", measured)


def _record(
    target: Target, options: CutOptions, dataset: Dataset, found: Cut, smaller: Chain, config: TrainConfig | None,
    where: torch.device,
) -> dict:  # fmt: skip
    """Return what the run folder says: how the network is built again, and how it is trained on."""
    if target.network is None:
        raise UserError(f"--out is not allowed for {target.name}: nothing says how to build it again")
    data = {"source": options.data, "resize": target.resize, "name": dataset.name, "classes": dataset.classes}
    data |= {"channels": dataset.channels, "height": dataset.height, "width": dataset.width, "notes": dataset.notes}
    data["bits"] = dataset.bits
    more = {"cut_from": target.name, "removed": removed_of(target, found), "seed": target.seed}
    if config is not None:
        more |= {"config": config.to_json(), "recipe": asdict(config.resolved_recipe())}
        more["augmentation"] = augmentation_record(dataset, config.flip)
        more["choices"] = _choices(smaller, config, dataset, where)
    return runs.record_of(
        spec=target.network, survival=Survival(), data=data, normalization=required_normalization(target),
        where=where, more=more,
    )  # fmt: skip


def removed_of(target: Target, found: Cut) -> list[int]:
    """Return all units that are out of the network that a run folder builds, counted from 0; earlier cuts included."""
    out = {removal.index - 1 for removal in found.order[: found.chosen]}
    there = len(target.chain) + len(target.removed)
    left = [index for index in range(there) if index not in target.removed]
    return sorted([*target.removed, *(index for number, index in enumerate(left) if number in out)])


def _choices(chain: Chain, config: TrainConfig, dataset: Dataset, where: torch.device) -> dict:
    """Return the arithmetic of the fine-tuning: the one that was asked for, or the fastest correct one here."""
    recipe = config.resolved_recipe()
    trials = trials_of(config, TrainingSteps(chain, batch_shape(recipe, dataset), recipe, where))
    return {"chosen": best_of(trials).choice, "trials": [asdict(trial) for trial in trials]}


def _config(target: Target, options: CutOptions) -> TrainConfig | None:
    """Return the options of the fine-tuning; None where there is none."""
    if not options.epochs:
        return None
    network = target.network or {}
    size = target.size[0] if target.size and target.size[0] == target.size[1] else None
    assert target.resize in ("crop", "pad", "squash")
    return TrainConfig(
        network=network.get("library", network.get("name", target.name)), data=options.data, epochs=options.epochs,
        lr=options.lr, size=size, resize=target.resize, flip=options.flip, skip_broken=options.skip_broken,
        seed=target.seed, device=options.device, precision=options.precision, threads=options.threads,
    )  # fmt: skip


PURPOSES = {
    "calibration": "units are chosen on",
    "evaluation": "errors are measured on",
    "statistics": "norm statistics are those of",
}
RECORD = "cut.json"
"""What was cut, in the folder of the cut network."""


def cut_target(
    target: Target, options: CutOptions, *, say: Tell, console: Console, doing: Tell = lambda _: None
) -> tuple[Cut, dict, Journal]:
    """Cut a trained network, write it into a run folder if that was asked for, and fine-tune it there.

    Args:
        target: The network.
        options: How.
        say: Receives remarks.
        console: Where the lines of the fine-tuning go, and progress if it is a terminal.
        doing: Receives what is being done, in a few words, many times; a KeyboardInterrupt that it raises stops.

    Returns:
        What was done, the record of it with where it comes from, and the journal, to be removed once the record is
        written.

    Raises:
        UserError: The options, the data or the folder are not usable, no cut holds the budget, or a unit cannot go.
        Stopped: An interrupt arrived; the same command goes on.
    """
    where, path = devices.pick(options.device), _journal_path(options)
    if options.out is None or not (options.out / RECORD).is_file():
        # Before the data are read, which can take minutes.
        _check_place(options)
        named_units(target.chain, options.remove)
    goes_on = "the same command goes on" if path else "with --out RUN or --json FILE the same command would go on"
    with stopped(goes_on):
        doing("reading the data")
        dataset = open_data_for(target, options.data, skip_broken=options.skip_broken, say=say)
        asked = replace(options, remove=tuple(sorted(options.remove)))  # in whatever order they are named
        key = work_key(
            options_key(asked), where, target=target, splits=[dataset.train, dataset.validation, dataset.test]
        )
        if options.out is not None and (done := _finished(options.out, key)) is not None:
            say(f"{options.out} is finished; nothing to do")
            return from_json(Cut, done), done, Journal(path)
        journal = Journal.open(path, key)
        found = _cut(target, options, dataset, journal, where, console, doing)
    origin = {"target": target.name, "data": options.data, "split": options.split, "key": key, **provenance(where)}
    samples = {purpose: to_json(which) for purpose, which in cut_samples(options, dataset).items()}
    parts = {**to_json(found), "kept": found.kept, **origin, "data_notes": dataset.notes, "samples": samples}
    record = tagged("cut", parts)
    if options.out is not None:
        checkpoints.write_whole(options.out / RECORD, runs.as_json(record))
    return found, record, journal


def _cut(
    target: Target, options: CutOptions, dataset: Dataset, journal: Journal, where: torch.device, console: Console,
    doing: Tell,
) -> Cut:  # fmt: skip
    chain = place(target.chain, Arithmetic("fp32", "channels_last"), where)
    images = cut_images(target, options, dataset, where)
    first = images.calibration[0].images
    threads = journal.result("threads", lambda: fastest_threads(chain, lambda: first, options.threads, where))
    with threads_of(threads):
        found = cut(
            chain, images, budget=options.budget, remove=options.remove, threads=options.timed_threads,
            precision=options.precision, journal=journal, console=console, doing=doing,
        )  # fmt: skip
    told = tuple(f"{PURPOSES[purpose]} {which}" for purpose, which in cut_samples(options, dataset).items())
    found = replace(found, notes=(*found.notes, *told))
    if dataset.train is None:
        found = replace(found, notes=(*found.notes, "no training images: statistics are those of the calibration"))
    if found.chosen is None:
        return found
    if options.out is not None:
        doing("writing the run folder")
        found = written(target, options, dataset, found, Frontier(chain, images, journal), console)
    test = test_images(target, options, dataset, where)
    if test is None:
        return found
    doing("measuring the cut network")
    assert found.chain is not None
    few = images.calibration[0].images[:32]
    with threads_of(threads):
        before, after = (prepared(one, few, precision="fp32", device=few.device).chain for one in (chain, found.chain))
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


def _journal_path(options: CutOptions) -> Path | None:
    """Return beside what finished steps are kept: the run folder, or the JSON."""
    return options.out or options.place


def _check_place(options: CutOptions) -> None:
    """Refuse a folder that is neither free nor the unfinished cut of this very command.

    Raises:
        UserError: It is something else.
    """
    out = options.out
    if out is None or (files_of(out) and runs.is_run(out)):
        return
    if runs.is_run(out):
        raise UserError(f"--out {out} is a run already; nothing was changed, name another")
    runs.check_free(out)
