"""The run folder of a cut network: how it is built again, its weights, and how it is trained on."""

from collections.abc import Callable
from dataclasses import asdict, replace

import torch
from rich.console import Console

from howdeep import checkpoints, runs
from howdeep.chain import Chain
from howdeep.cutting.frontier import Frontier
from howdeep.cutting.options import CutOptions
from howdeep.cutting.records import Cut
from howdeep.data import Dataset, augmentation_record
from howdeep.data.recorded import recorded
from howdeep.dissect.effects import Effect
from howdeep.errors import UserError
from howdeep.inference import required_normalization
from howdeep.records import from_json, to_json
from howdeep.stopwatch import thread_counts
from howdeep.survival import Survival
from howdeep.targets import Target
from howdeep.training.config import TrainConfig
from howdeep.training.loop import train
from howdeep.training.position import Position
from howdeep.training.precision import best_of, candidates, measure
from howdeep.training.step import Arithmetic, place


def written(
    target: Target, options: CutOptions, dataset: Dataset, found: Cut, smaller: Chain, frontier: Frontier,
    console: Console,
) -> tuple[Chain, Cut]:  # fmt: skip
    """Write the cut network into its run folder and fine-tune it there.

    Returns:
        The network that the folder stands for, and what was found, with what fine-tuning made of it.
    """
    assert options.out is not None
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
        return standing(), found

    def better() -> Chain:
        if not _tuning(run, smaller, standing, frontier)["tuned_kept"]:
            checkpoints.save_only(run.best, 0, tensors={"weights": smaller.state_dict()}, state={"epoch": 0.0})
        return standing()

    train(config, options.out, console=console, dataset=dataset, chosen=better)
    chain, tuning = better(), _tuning(run, smaller, standing, frontier)
    tuned = from_json(Effect, tuning["tuned"])
    return chain, replace(found, **{**tuning, "tuned": tuned, "epochs": options.epochs})


def _tuning(run: runs.Run, smaller: Chain, trained: Callable[[], Chain], frontier: Frontier) -> dict:
    """Return what the best epoch made of a cut network, and whether it is kept: whether it helped."""

    def measured() -> dict:
        best = checkpoints.newest(run.best, lambda _: None)
        _, tuned, kept = frontier.effects(smaller, trained(), frontier.answers())
        return {"tuned": to_json(tuned), "tuned_epoch": best and best.state["epoch"], "tuned_kept": kept}

    return frontier.kept.result("fine-tuning", measured)


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
    count = max(2, min(recipe.batch_size, len(dataset.split("train"))))
    shape = (count, dataset.channels, dataset.height, dataset.width)
    tried = candidates(config.precision, config.memory_format, where)
    threads = thread_counts(config.threads, where)
    trials = measure(chain, shape, recipe, tried, memory="fast", device=where, threads=threads)
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
