"""How deep? Networks of several depths compete within a training budget; the best one is trained to the end.

    measure costs  →  drop what misses a budget  →  successive halving  →  train the best to the end  →  test once

Whatever the moment of a stop, the same options go on: the study knows the rungs that were passed, the run folders
hold the networks, the clock the time that was used.
"""

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import optuna
import torch
from rich.console import Console

from howdeep import checkpoints, runs
from howdeep import device as devices
from howdeep.data import Dataset
from howdeep.data.trainable import trainable
from howdeep.dissect.subject import prepared
from howdeep.errors import UserError
from howdeep.evaluation import standard_error_percent
from howdeep.fitting.answer import Contender, verdict
from howdeep.fitting.candidates import Field, field_of
from howdeep.fitting.climbing import Climber, Left
from howdeep.fitting.clock import Clock
from howdeep.fitting.halving import rungs_of
from howdeep.fitting.records import FinalError, Fit, FitOptions
from howdeep.fitting.search import FAILED, Entry, Search, enlist, open_study, rungs_of_trial, trials_by_network
from howdeep.locks import folder_locked
from howdeep.records import from_json, tagged, to_json
from howdeep.stopwatch import Timing, forward_times
from howdeep.training.config import TrainConfig
from howdeep.training.journal import print_line
from howdeep.training.session import open_training_data

CLOCK, STUDY, RUNS, ANSWER = "clock.json", "study.db", "runs", "answer.json"
PLAN, PLANNER = "plan", "planner"
PLANNING_SECONDS = 600.0
"""How long to wait for the process that measures costs for all."""
Say = Callable[[str], None]


def fit(options: FitOptions, *, console: Console | None = None) -> tuple[Fit, dict] | None:
    """Return how deep a network should be for some data and budgets, and train it.

    Args:
        options: What is asked.
        console: Where lines and progress go; None is standard error.

    Returns:
        The answer and its record; None where another process of the same study trains the chosen network.

    Raises:
        UserError: An option or the data is not usable, another process writes there, or no network meets the budgets;
            the least that would do is named.
        Stopped: A signal arrived; the same options go on.
    """
    console = console or Console(stderr=True)
    say: Say = partial(print_line, console)
    if (known := _answered(options)) is not None:
        say(f"{options.out} has its answer; nothing to do")
        return known
    budget = options.budgets.train_seconds
    with folder_locked(options.out), Clock(options.out / CLOCK) as clock, console.status(Left(clock, budget)):
        return _found(options, clock, say)


def _answered(options: FitOptions) -> tuple[Fit, dict] | None:
    """Return the answer that is there already.

    Raises:
        UserError: It answers another question.
    """
    place = options.out / ANSWER
    if not place.exists():
        return None
    record = json.loads(place.read_bytes())
    _same(record["asked"], options, str(options.out))
    return from_json(Fit, record), record


def _same(before: dict, options: FitOptions, where: str) -> None:
    for name, now in json.loads(json.dumps(options.asked())).items():
        if before.get(name) != now:
            told = f"{name.replace('_', '-')} was {before.get(name)} and is now {now}"
            raise UserError(f"{where} belongs to a fit with other options: {told}; use those, or name another --out")


def _found(options: FitOptions, clock: Clock, say: Say) -> tuple[Fit, dict] | None:
    dataset = trainable(open_training_data(options.training(1)), options.limit)
    dataset.split("val")
    config = options.training(len(dataset.split("train")))
    study, made = open_study(options.storage or f"sqlite:///{options.out / STUDY}", options.study)
    field, rungs = _planned(study, made, options, config, dataset, clock, say)
    climber = Climber(config, field.arithmetic, options.out / RUNS, dataset, clock, options.budgets.train_seconds, say)
    costs = {one.network: one for one in field.candidates}
    entries = [Entry(one.family, one.depth, one.network) for one in field.candidates]
    enlist(study, entries)

    def climb(entry, done, until):
        return climber.climb(costs[entry.network], done, until)

    search = Search(study, entries, rungs, str(options.out.resolve()), climb, say)
    chosen, owner = search.winner()
    if owner != search.owner:
        say(f"{chosen.network} was chosen; the process with --out {owner or '(another)'} trains it to the end")
        return None
    done = rungs_of_trial(trials_by_network(study)[chosen.network])
    keep = partial(search.keep, chosen.network)
    test = climber.to_the_end(costs[chosen.network], done, len(rungs), keep)
    search.finish(chosen.network)
    return _answer(options, dataset, study, field, chosen, climber.run(chosen.network), test, clock)


def _planned(
    study: optuna.Study, made: bool, options: FitOptions, config: TrainConfig, dataset: Dataset, clock: Clock, say: Say
) -> tuple[Field, tuple[float, ...]]:  # fmt: skip
    """Return who takes part and how long the rungs are: measured by the process that made the study, for all."""
    owner = str(options.out.resolve())
    if made:
        study.set_user_attr(PLANNER, owner)
    if PLAN not in study.user_attrs and study.user_attrs.get(PLANNER) == owner:
        say("what each depth costs here:")
        ladders = options.ladders(dataset.height, dataset.width)
        field = field_of(config, ladders, options.budgets, dataset, devices.pick(options.device), say)
        rungs = rungs_of(len(field.candidates), options.budgets.train_seconds - clock.spent)
        plan = {"asked": options.asked(), "field": to_json(field), "rungs": rungs}
        study.set_user_attr(PLAN, plan)
    plan = _awaited(study)
    _same(plan["asked"], options, f"study {options.study!r}")
    return from_json(Field, plan["field"]), tuple(plan["rungs"])


def _awaited(study: optuna.Study) -> dict:
    """Return the plan of a study, which another process may still be measuring."""
    patience = time.monotonic() + PLANNING_SECONDS
    while PLAN not in study.user_attrs:
        if time.monotonic() > patience:
            planner = study.user_attrs.get(PLANNER, "a process that is gone")
            raise UserError(f"study {study.study_name!r} has no plan: {planner} was to make it; name another --study")
        time.sleep(1)
    return study.user_attrs[PLAN]


def _answer(
    options: FitOptions, dataset: Dataset, study: optuna.Study, field: Field, chosen: Entry, run: Path,
    test: dict | None, clock: Clock,
) -> tuple[Fit, dict]:  # fmt: skip
    trials = trials_by_network(study)
    contenders = tuple(
        Contender(one, tuple(rungs_of_trial(trials[one.network])), FAILED in trials[one.network].user_attrs)
        for one in field.candidates
    )
    best = next(one for one in contenders if one.costs.network == chosen.network)
    images, last, where = len(dataset.split("val")), best.rungs[-1], devices.pick(options.device)
    latency = latency_of(run, dataset, where)
    found = Fit(
        network=chosen.network,
        family=chosen.family,
        depth=chosen.depth,
        run=str(run),
        validation_error_percent=last.validation_error_percent,
        validation_standard_error=standard_error_percent(last.validation_error_percent / 100, images),
        validation_images=images,
        test=None if test is None else FinalError(test["error_percent"], test["standard_error"], test["n"]),
        latency=latency,
        epochs=last.epochs,
        spent_seconds=clock.spent,
        budgets=options.budgets,
        verdict=verdict(best, contenders, field.dropped, options.budgets, images, min(dataset.height, dataset.width)),
        contenders=contenders,
        dropped=field.dropped,
        precision=field.arithmetic.precision,
        notes=tuple(dataset.notes),
    )
    origin = {"data": options.data, "asked": options.asked(), **runs.provenance(where)}
    record = tagged("fit", {**to_json(found), **origin})
    checkpoints.write_whole(options.out / ANSWER, json.dumps(record, indent=1).encode())
    return found, record


def latency_of(run: Path, dataset: Dataset, device: torch.device) -> Timing:
    """Return how long one forward pass of one image takes a trained network, norms folded, on one thread."""
    image = torch.zeros(1, dataset.channels, dataset.height, dataset.width, device=device)
    image = image.contiguous(memory_format=torch.channels_last)
    chain, _ = prepared(runs.open_run(run).chain(lambda _: None), image, precision="fp32", device=device)
    return forward_times([chain], image)[0]
