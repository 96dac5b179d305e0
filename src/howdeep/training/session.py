"""What a run is made of while it trains: data, network, recipe, place, state."""

from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from howdeep.chain import Chain
from howdeep.runs import checkpoints
from howdeep.runs import folder as runs
from howdeep.runs.folder import Run
from howdeep.runtime import precision
from howdeep.runtime.modes import evaluating
from howdeep.runtime.precision import Arithmetic
from howdeep.runtime.process import keep_freed_memory
from howdeep.runtime.ranks import Ranks
from howdeep.survival import Survival
from howdeep.training import step
from howdeep.training.averaging import Average
from howdeep.training.config import TrainConfig
from howdeep.training.feed import Feed
from howdeep.training.optimizers import make_optimizer, restore
from howdeep.training.pace import Pace, pace_of
from howdeep.training.recipes import Recipe
from howdeep.training.state import Memory, Position
from howdeep.transform.folding import folding_norms
from howdeep.util.errors import UserError
from howdeep.util.text import Report


@dataclass(frozen=True)
class Place:
    """Where a run is trained, and who hears of it."""

    ranks: Ranks
    """Which of the processes this is."""
    device: torch.device
    """What computes."""
    report: Report
    """Receives lines for the user."""


@dataclass(frozen=True)
class Session:
    """The parts of a run. What moves while it trains is in ``chain``, ``optimizer``, ``position`` and ``pace``."""

    config: TrainConfig
    place: Place
    run: Run | Memory
    """What it leaves."""
    feed: Feed
    """Its mini-batches."""
    recipe: Recipe
    chain: Chain
    engine: nn.Module
    """What runs a training step of the chain."""
    optimizer: Optimizer
    average: Average | None
    """Of the weights, where the recipe has one."""
    position: Position
    pace: Pace

    @cached_property
    def arithmetic(self) -> Arithmetic:
        """Precision and memory format, as they were chosen when the run was begun."""
        return arithmetic_of(self.run.record["choices"])

    @cached_property
    def evaluated(self) -> Chain:
        """The chain as it is validated: it shares its tensors, and folds norms where branches are not compiled.

        Made once: of a small network the copy takes half as long as the validation.
        """
        if self.config.compile:
            return self.chain
        with evaluating(self.chain):
            return folding_norms(self.chain)

    @property
    def rule(self) -> Survival:
        """The rule for the gates."""
        assert isinstance(self.chain.rule, Survival), "a network that is trained has one"
        return self.chain.rule

    @cached_property
    def ends(self) -> tuple[int, ...]:
        """Step at which each phase of the schedule ends: one, and one more for every time that the run was extended."""
        return tuple(self.run.record.get("ends", [self.recipe.total(self.feed.steps_per_epoch)]))

    def standing(self) -> dict[str, Tensor]:
        """Return what the run stands for at this step: the chain's state, its averages where there are any."""
        return {**self.chain.state_dict(), **(self.average.tensors if self.average else {})}

    @property
    def total(self) -> int:
        """Mini-batches of the run."""
        return self.ends[-1]


def session_of(
    config: TrainConfig, place: Place, run: Run | Memory, feed: Feed, recipe: Recipe, chain: Chain
) -> Session:
    """Return the session of a network, filled from the newest checkpoint where there is one.

    Args:
        config: Its options.
        place: Where it is trained.
        run: What it leaves. Its record says what was chosen.
        feed: Its mini-batches.
        recipe: How it is trained; nothing in it is ``auto``.
        chain: The network with its rule for the gates; from here on it is the session's.
    """
    keep_freed_memory()  # else half of a step on photos is spent on memory that is given back and taken again
    precision.place(chain, arithmetic_of(run.record["choices"]), place.device)
    step.ready(chain, recipe)
    optimizer = make_optimizer(chain, recipe, frozen=config.dropped == "frozen")
    average = None if recipe.ema is None else Average(chain, recipe.ema)
    position = Position()
    if isinstance(run, Run):
        position = _restored(run, place, chain, optimizer, average)
        run = _extended(run, config, recipe, recipe.total(feed.steps_per_epoch), position.step, place)
    first = place.ranks.first
    pace = place.ranks.from_first(pace_of(run, config.threads, place.device, position.step) if first else None)
    assert isinstance(pace, Pace)
    engine = step.engine_of(chain, config.checkpointing, place.ranks, compiled=config.compile)
    return Session(config, place, run, feed, recipe, chain, engine, optimizer, average, position, pace)


def arithmetic_of(choices: dict) -> Arithmetic:
    """Return the precision and memory format of what a run's record says was chosen."""
    chosen = choices["chosen"]
    return Arithmetic(chosen["precision"], chosen["memory_format"])


def _restored(run: Run, place: Place, chain: Chain, optimizer: Optimizer, average: Average | None) -> Position:
    """Fill chain, optimizer and average from the newest whole checkpoint and return its position, or the start's."""
    saved = checkpoints.newest(run.checkpoints, place.report) if place.ranks.first else None
    path = place.ranks.from_first(saved and str(saved.path))
    if path is None:
        return Position()
    saved = saved or checkpoints.load(Path(str(path)))
    chain.load_state_dict(saved.tensors("weights"))
    restore(optimizer, chain, saved)
    if average is not None:  # a network that was cut was saved without
        for name, tensor in saved.network().items():
            if name in average.tensors:
                average.tensors[name].copy_(tensor)
    if saved.step:
        place.report(f"resumed from step {saved.step}")
    return Position.from_json(saved.state)


def _extended(run: Run, config: TrainConfig, recipe: Recipe, total: int, done: int, place: Place) -> Run:
    """Return a run that has done some steps and is to do so many: itself, or with another phase of the schedule.

    Raises:
        UserError: It has done more already.
    """
    ends = run.record.get("ends", [total])
    if total == ends[-1]:
        return run
    if total <= done:
        raise UserError(f"{run.path} has done {done} steps and the epochs asked for are {total}: ask for more")
    ends = [*ends, total] if done >= ends[-1] else [*ends[:-1], total]
    changes = {"config": config.to_json(), "recipe": asdict(recipe), "ends": ends}
    return runs.extended(run, changes) if place.ranks.first else Run(run.path, {**run.record, **changes})
