"""Everything a run is made of: data, network, recipe, place, state; from its options, or from its folder."""

import math
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from howdeep.chain import Chain
from howdeep.data import Dataset, augmentation_line, augmentation_of, augmentation_record, open_data
from howdeep.data import steps_per_epoch as steps_of
from howdeep.data.recorded import Recorded, recorded
from howdeep.data.recorded import difference as changes_between
from howdeep.data.sampling import trainable
from howdeep.runs import checkpoints
from howdeep.runs import folder as runs
from howdeep.runs.folder import Run
from howdeep.runtime import precision
from howdeep.runtime.modes import frozen_statistics, norms_of
from howdeep.runtime.precision import Arithmetic
from howdeep.runtime.ranks import Ranks
from howdeep.runtime.timing import threads_of
from howdeep.survival import Survival
from howdeep.training import step
from howdeep.training.averaging import Average
from howdeep.training.classifier import begin_as_regression
from howdeep.training.config import TrainConfig, difference
from howdeep.training.feed import Feed, SplitFeed
from howdeep.training.optimizers import make_optimizer, restore
from howdeep.training.pace import Pace, pace_of
from howdeep.training.precision import TrainingSteps, batch_shape, choose
from howdeep.training.recipes import Recipe
from howdeep.training.start import Initial, Prepared, Start, image_of, start_of
from howdeep.training.state import Memory, Position
from howdeep.training.trials import Trials
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
        return _arithmetic(self.run.record["choices"])

    @property
    def rule(self) -> Survival:
        """The rule for the gates."""
        assert isinstance(self.chain.rule, Survival), "a network that is trained has one"
        return self.chain.rule

    @cached_property
    def ends(self) -> tuple[int, ...]:
        """Step at which each phase of the schedule ends: one, and one more for every time that the run was extended."""
        return tuple(self.run.record.get("ends", [steps_in(self.recipe, self.feed.steps_per_epoch)]))

    def standing(self) -> dict[str, Tensor]:
        """Return what the run stands for at this step: the chain's state, its averages where there are any."""
        return {**self.chain.state_dict(), **(self.average.tensors if self.average else {})}

    @property
    def total(self) -> int:
        """Mini-batches of the run."""
        return self.ends[-1]


def total_steps(recipe: Recipe, images: int) -> int:
    """Return the mini-batches of a run on so many images."""
    return steps_in(recipe, steps_of(images, recipe.batch_size))


def steps_in(recipe: Recipe, steps_per_epoch: int) -> int:
    """Return the mini-batches of a run whose epochs have so many; none where nothing more is trained."""
    if recipe.tune == "classifier":
        return 0
    if recipe.steps is not None:
        return recipe.steps
    # Rounded first: epochs that were computed from steps give those steps again.
    return max(1, math.ceil(round((recipe.epochs or 0) * steps_per_epoch, 6)))


def prepare(config: TrainConfig, out: Path, place: Place, dataset: Dataset | None = None) -> Session:
    """Return a session at its start, or where the run in the folder left off.

    In this order: a run in the folder resumes from its newest whole checkpoint; an empty or missing folder becomes a
    new run; anything else is refused.

    Args:
        config: What to do.
        out: The run folder.
        place: Where.
        dataset: What :func:`open_training_data` gives, where it is open already.

    Raises:
        UserError: An option, the data or the folder is not usable, or the run was made with other options.
    """
    run = _existing_run(config, out, place.ranks)
    # Before the data are read, which can take minutes. A run with a checkpoint is built again from its record alone.
    begun = run is not None and place.ranks.from_first(run.begun)
    origin = Begun(run) if run is not None and begun else start_of(config, place.report)
    beginning = Beginning(config, out, place, run, origin)
    dataset = beginning.dataset(dataset)
    if run is None or run.result() is None:
        return beginning.session(dataset)
    # Of a run that turns out to be finished, and not to be extended, nobody needs to hear how it would resume.
    lines: list[str] = []
    session = replace(beginning, place=replace(place, report=lines.append)).session(dataset)
    if run.result() is None:
        for line in lines:
            place.report(line)
    return replace(session, place=place)


def _existing_run(config: TrainConfig, out: Path, ranks: Ranks) -> Run | None:
    """Return the run in the folder if these options resume it, or None where the folder is free."""
    if not ranks.from_first(runs.is_run(out)):
        if ranks.first:
            runs.check_free(out)
        return None
    run = runs.open_run(out)
    if "config" not in run.record:
        raise UserError(f"{out} holds imported weights, not a run to resume; name another --out")
    if changed := difference(run.record["config"], config):
        raise UserError(f"{out} is a run with other options: {changed}; use those, or name another --out")
    return run


@dataclass(frozen=True)
class Begun:
    """Where a run that has a checkpoint begins again: with what its record says, whatever the options are."""

    run: Run
    known: None = None
    """Its images are its own, not those of another run."""

    @property
    def prepared(self) -> Prepared:
        """How its images are prepared."""
        return Prepared.of_run(self.run)

    def network(self, dataset: Dataset, recipe: Recipe) -> Initial:
        """Return its network, which the checkpoint fills."""
        normalization = self.run.normalization
        assert normalization is not None, "a run that was trained here has one"
        return Initial(self.run.untrained().train(), self.run.record["network"], normalization)


@dataclass(frozen=True)
class Beginning:
    """How a session begins: data, then network and recipe, then the record of the run, then its state."""

    config: TrainConfig
    out: Path
    place: Place
    run: Run | None
    """The run in the folder, begun or not; None where there is none yet."""
    origin: Start | Begun
    """Where its network comes from."""

    def dataset(self, given: Dataset | None) -> Dataset:
        """Return the data of a run: those that it was begun with, or, of a new one, without what its weights know.

        Args:
            given: The data, where they are open already.
        """
        config, folder, known = self.config, None, self.origin.known
        if self.run is not None:
            folder, known = self.out, _images(self.run, self.place)
        if given is None:
            dataset = open_training_data(config, known, folder, self.origin.prepared)
            return trainable(dataset, config.limit, config.seed)
        dataset = trainable(given, config.limit, config.seed)
        if folder is not None:
            require_same_images(folder, known, dataset)
        return dataset

    def session(self, dataset: Dataset) -> Session:
        """Return the session on its data."""
        config, place = self.config, self.place
        recipe = config.resolved_recipe()
        initial = self.origin.network(dataset, recipe)
        chain = initial.chain
        if recipe.warmup is not None and initial.network.get("depth", len(chain)) < recipe.warmup.from_depth:
            recipe = replace(recipe, warmup=None)
        _refuse_lone_image(chain, config.network, dataset, recipe.batch_size, place.ranks)
        augmented = augmentation_line(dataset, config.augmentation, config.flip)
        for line in (*dataset.notes, size_line(config.network, chain), *initial.lines, augmented, *recipe.lines):
            place.report(line)
        choices = _choices(config, place, dataset, recipe, initial) if self.run is None else self.run.record["choices"]
        arithmetic = _arithmetic(choices)
        feed = SplitFeed(
            dataset=dataset,
            normalization=initial.normalization,
            augmentation=augmentation_of(dataset, config.augmentation, config.flip),
            recipe=recipe,
            seed=config.seed,
            device=place.device,
            channels_last=arithmetic.channels_last,
            workers=config.workers,
            ranks=place.ranks,
        )
        if initial.record is not None:
            precision.place(chain, arithmetic, place.device)
            with threads_of(choices["chosen"]["threads"]):
                recipe = self._with_weights(recipe, initial.record, choices, feed, chain)
        elif "training" in choices:
            recipe = replace(recipe, **choices["training"]["chosen"])
        run = self._run_of(dataset, recipe, initial, choices)
        return session_of(config, place, run, feed, recipe, chain)

    def _with_weights(self, recipe: Recipe, start: dict, choices: dict, feed: SplitFeed, chain: Chain) -> Recipe:
        """Let a new classifier begin as the regression, and return the recipe of the trials, which are recorded.

        Raises:
            UserError: The classifier alone is to be trained, and cannot be.
        """
        config, place = self.config, self.place
        fitted = begin_as_regression(chain, start["reset"], feed, place.report) if start["reset"] else None
        if recipe.tune == "classifier" and fitted is None:
            raise UserError(f"--tune classifier is not allowed: {config.network} has no single linear layer for it")
        start["regression"] = fitted
        if "training" not in choices:
            total = steps_in(recipe, feed.steps_per_epoch)
            arithmetic = _arithmetic(choices)
            trials = Trials(chain, recipe, feed, config, place.ranks, place.device, arithmetic, total)
            choices["training"] = trials.settle(place.report)
        return replace(recipe, **choices["training"]["chosen"])

    def _run_of(self, dataset: Dataset, recipe: Recipe, initial: Initial, choices: dict) -> Run:
        """Return the run in the folder, or the new one, with the record of what it is and of its images."""
        run, first = self.run, self.place.ranks.first
        if run is None:
            record = _record(self.config, self.place, dataset, recipe, self.origin.prepared, initial, choices)
            images = recorded(dataset).after(self.origin.known)
            return runs.create(self.out, record, images) if first else Run(self.out, record)
        if first and not run.begun:
            run.keep_images(recorded(dataset).after(self.origin.known))
        return run


# --- data


def open_training_data(
    config: TrainConfig,
    images: Recorded | None = None,
    folder: Path | None = None,
    prepared: Prepared | None = None,
) -> Dataset:
    """Return the data of a run, or of other work that trains.

    Args:
        config: The options of the run.
        images: Those that it was begun with, if it was; they keep their splits.
        folder: Its folder, where it was begun.
        prepared: How its images become what the network reads, where that is settled; None is by the options.

    Raises:
        UserError: The data are not usable, or not those that were begun with.
    """
    prepared = prepared or Prepared(config.size, config.resize)
    dataset = open_data(
        config.data,
        size=prepared.size,
        resize=prepared.resize,
        channels=prepared.channels,
        bits=prepared.bits,
        crop=prepared.crop,
        seed=config.seed,
        skip_broken=config.skip_broken,
        recorded=images,
        identify=True,
    )
    if folder is not None:
        require_same_images(folder, images, dataset)
    return dataset


def require_same_images(folder: Path, images: Recorded | None, dataset: Dataset) -> None:
    """Refuse to resume with other data than those that were begun with, as that is other work.

    Args:
        folder: That of the work.
        images: What was begun with; None where nothing says so.
        dataset: What is there now.

    Raises:
        UserError: Classes, shape or images differ; one line says in what.
    """
    if images is not None and (changes := changes_between(images, recorded(dataset))):
        raise UserError(f"{folder} was begun with other data: {changes}; restore them, or name another --out")


def _images(run: Run, place: Place) -> Recorded:
    """Return the images of a run; of one that does not say which they are, only classes and shape."""
    images = run.images()
    if images is not None:
        return images
    if run.begun:
        place.report(f"{run.path} does not say which images it was trained on: splits are drawn anew by its seed")
    data = run.record["data"]
    return Recorded(tuple(data["classes"]), (data["channels"], data["height"], data["width"]))


# --- network and recipe


def _refuse_lone_image(chain: Chain, name: str, dataset: Dataset, batch_size: int, ranks: Ranks) -> None:
    """Raise a UserError where a norm would meet one value per channel, which has no variance."""
    last = len(dataset.split("train")) % batch_size or batch_size
    if last // ranks.world > 1:
        return
    probe = torch.zeros(1, *image_of(dataset))
    try:
        with torch.no_grad(), frozen_statistics(norms_of(chain)):
            chain(probe, [1.0] * len(chain))
    except ValueError:
        raise UserError(
            f"{name} cannot be trained on a mini-batch of 1 image of {dataset.height}×{dataset.width}, the last of"
            " every epoch: its last feature maps are one pixel; choose another --batch-size or --size"
        ) from None


def _choices(config: TrainConfig, place: Place, dataset: Dataset, recipe: Recipe, initial: Initial) -> dict:
    """Return the arithmetic and threads of a new run, by measuring."""
    shape, settled = batch_shape(recipe, dataset, place.ranks.world), recipe.settled(given=initial.record is not None)
    steps = TrainingSteps(initial.chain, shape, settled, place.device, config.checkpointing)
    return choose(config, steps, total_steps(recipe, len(dataset.split("train"))), place.ranks, place.report)


def _record(
    config: TrainConfig,
    place: Place,
    dataset: Dataset,
    recipe: Recipe,
    prepared: Prepared,
    initial: Initial,
    choices: dict,
) -> dict:
    """Return what a new run is: its options, where it begins, and what was chosen by measuring."""
    chain = initial.chain
    assert isinstance(chain.rule, Survival)
    attributes = ("name", "classes", "channels", "height", "width", "bits", "notes")
    data = {"source": config.data, "resize": prepared.resize, **{name: getattr(dataset, name) for name in attributes}}
    data |= {} if prepared.crop is None else {"crop": asdict(prepared.crop)}
    more = {
        "config": config.to_json(),
        "recipe": asdict(recipe),
        "ends": [total_steps(recipe, len(dataset.split("train")))],
        "augmentation": augmentation_record(dataset, config.augmentation, config.flip),
        "choices": choices,
    }
    more |= initial.cut
    more |= {} if initial.record is None else {"start": initial.record}
    return runs.record_of(
        spec=initial.network,
        survival=chain.rule,
        data=data,
        normalization=initial.normalization,
        where=place.device,
        more=more,
    )


def size_line(name: str, chain: Chain) -> str:
    """Return in one line how large a network is."""
    parameters = sum(parameter.numel() for parameter in chain.parameters())
    return f"{name}: {len(chain)} units, {parameters:,} parameters"


# --- state


def session_of(
    config: TrainConfig, place: Place, run: Run | Memory, feed: Feed, recipe: Recipe, chain: Chain
) -> Session:
    """Return the session of a network, filled from the newest checkpoint where there is one.

    Args:
        config: Its options.
        place: Where it is trained.
        run: What it leaves. Its record says what was chosen.
        feed: Its mini-batches.
        recipe: How it is trained; ``auto`` in it is what it is where nothing was tried.
        chain: The network with its rule for the gates; from here on it is the session's.
    """
    recipe = recipe.settled(given="start" in run.record or "removed" in run.record)
    precision.place(chain, _arithmetic(run.record["choices"]), place.device)
    step.ready(chain, recipe)
    optimizer = make_optimizer(chain, recipe, frozen=config.dropped == "frozen")
    average = None if recipe.ema is None else Average(chain, recipe.ema)
    position = Position()
    if isinstance(run, Run):
        position = _restored(run, place, chain, optimizer, average)
        run = _extended(run, config, recipe, steps_in(recipe, feed.steps_per_epoch), position.step, place)
    first = place.ranks.first
    pace = place.ranks.from_first(pace_of(run, config.threads, place.device, position.step) if first else None)
    assert isinstance(pace, Pace)
    if config.compile:
        step.compile_branches(chain)
    engine = step.engine_of(chain, config.checkpointing, place.ranks)
    return Session(config, place, run, feed, recipe, chain, engine, optimizer, average, position, pace)


def _arithmetic(choices: dict) -> Arithmetic:
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
