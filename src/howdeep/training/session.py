"""Everything a run is made of, put together from its options or from its folder."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import SGD

from howdeep.analysis.evaluation import Sums
from howdeep.chain import Chain
from howdeep.data import (
    NORMALIZATIONS,
    Augmentation,
    Dataset,
    Normalization,
    augmentation_record,
    augmentation_told,
    default_augmentation,
    open_data,
)
from howdeep.data import steps_per_epoch as steps_of
from howdeep.data.recorded import Recorded, recorded
from howdeep.data.recorded import difference as changes_between
from howdeep.data.sampling import trainable
from howdeep.networks import Spec, build, spec_of
from howdeep.networks.counting import refuse_too_small
from howdeep.runs import checkpoints
from howdeep.runs import folder as runs
from howdeep.runs.checkpoints import SaveError
from howdeep.runs.folder import Run
from howdeep.runtime.checkpointing import still_statistics
from howdeep.runtime.distributed import Ranks
from howdeep.survival import Survival
from howdeep.training.config import TrainConfig, difference
from howdeep.training.pace import Pace, pace_of
from howdeep.training.precision import Say, choose
from howdeep.training.recipes import Recipe
from howdeep.training.state import Position
from howdeep.training.step import Arithmetic, compile_branches, engine_of, make_optimizer, place
from howdeep.util.errors import UserError


@dataclass(frozen=True)
class Session:
    """The parts of a run. What moves while it trains is in ``chain``, ``optimizer``, ``position`` and ``pace``."""

    config: TrainConfig
    recipe: Recipe
    run: Run
    ranks: Ranks
    device: torch.device
    dataset: Dataset
    normalization: Normalization
    augmentation: Augmentation
    rule: Survival
    arithmetic: Arithmetic
    chain: Chain
    engine: nn.Module
    optimizer: SGD
    position: Position
    pace: Pace
    ends: tuple[int, ...]
    """Step at which each phase of the schedule ends: one, and one more for every time that the run was extended."""

    @property
    def images(self) -> int:
        """Training images of an epoch."""
        return len(self.dataset.split("train"))

    @property
    def steps_per_epoch(self) -> int:
        """Mini-batches of an epoch."""
        return steps_of(self.images, self.recipe.batch_size)

    @property
    def total(self) -> int:
        """Mini-batches of the run."""
        return self.ends[-1]


def total_steps(recipe: Recipe, images: int) -> int:
    """Return the mini-batches of a run."""
    if recipe.steps is not None:
        return recipe.steps
    # Rounded first: epochs that were computed from steps give those steps again.
    return max(1, math.ceil(round((recipe.epochs or 0) * steps_of(images, recipe.batch_size), 6)))


def open_training_data(
    config: TrainConfig, known: Recorded | None = None, place: Path | None = None, *, channels: int | None = None,
    bits: int | None = None,
) -> Dataset:  # fmt: skip
    """Return the data of a run, or of other work that trains.

    Args:
        config: The options of the run.
        known: The images that it was begun with, if it was; they keep their splits.
        place: Its folder, where it was begun.
        channels: Of its images, where that is settled.
        bits: Of its 16-bit images, where that is settled.

    Raises:
        UserError: The data are not usable, or not those that were begun with.
    """
    dataset = open_data(
        config.data, size=config.size, resize=config.resize, channels=channels, bits=bits, seed=config.seed,
        skip_broken=config.skip_broken, known=known, identify=True,
    )  # fmt: skip
    if place is not None:
        require_same_images(place, known, dataset)
    return dataset


def require_same_images(place: Path, known: Recorded | None, dataset: Dataset) -> None:
    """Refuse to go on with other data than those that were begun with, as that is other work.

    Args:
        place: The folder of the work.
        known: What was begun with; None where nothing says so.
        dataset: What is there now.

    Raises:
        UserError: Classes, shape or images differ; one line says in what.
    """
    if known is not None and (said := changes_between(known, recorded(dataset))):
        raise UserError(f"{place} was begun with other data: {said}; restore them, or name another --out")


def prepare(
    config: TrainConfig, out: Path, ranks: Ranks, device: torch.device, say: Say, dataset: Dataset | None = None
) -> Session:  # fmt: skip
    """Return a session at its start, or where the run in ``out`` left off.

    In this order: a run in ``out`` goes on from its newest whole checkpoint; an empty or missing ``out`` becomes a new
    run; anything else is refused.

    Args:
        config: What to do.
        out: The run folder.
        ranks: Which process this is.
        device: Where.
        say: Receives remarks.
        dataset: What :func:`open_training_data` gives, where it is open already.

    Raises:
        UserError: An option, the data or the folder is not usable, or the run was made with other options.
    """
    run = _found_run(config, out, ranks)
    # Of a run that turns out to be finished, and not to be extended, nobody needs to hear how it would go on.
    held: list[str] = []
    tell = say if run is None or run.result() is None else held.append
    session = _prepared(config, out, run, ranks, device, say, tell, dataset)
    if session.run.result() is None:
        for line in held:
            say(line)
    return session


def _prepared(
    config: TrainConfig, out: Path, run: Run | None, ranks: Ranks, device: torch.device, say: Say, tell: Say,
    dataset: Dataset | None,
) -> Session:  # fmt: skip
    """Return the session; ``say`` receives warnings, ``tell`` what is trained and how."""
    if run is not None and "removed" in run.record:
        return _fine_tuning(config, run, ranks, device, say, tell, dataset)
    known = run and _known_images(run, say)
    dataset = _trainable(config, out, known, dataset)
    if run is not None and ranks.first and not run.begun:
        run.keep_images(recorded(dataset))
    recipe = _for_depth(config.resolved_recipe(), spec := _spec(config, dataset))
    refuse_too_small(spec, dataset.height, dataset.width)
    rule = Survival.parse(recipe.survival, config.survival_mode)
    chain = build(spec, rule, seed=config.seed)
    rule.check(len(chain))
    _refuse_lone_image(chain, dataset, spec, recipe.batch_size, ranks)
    told = f"{spec.name}: {len(chain)} units, {_parameters(chain):,} parameters"
    for note in (*dataset.notes, told, augmentation_told(dataset, config.flip)):
        tell(note)
    if run is None:
        record = _record(config, recipe, spec, rule, chain, dataset, ranks, device, tell)
        run = runs.create(out, record, recorded(dataset)) if ranks.first else Run(out, record)
    return _assemble(config, recipe, run, ranks, device, dataset, rule, chain, tell)


def _fine_tuning(
    config: TrainConfig, run: Run, ranks: Ranks, device: torch.device, say: Say, tell: Say, dataset: Dataset | None
) -> Session:  # fmt: skip
    """Return the session of a network that was cut, own or of a library; its first checkpoint is that of the cut."""
    known = _known_images(run, say)
    data = run.record["data"]
    dataset = _trainable(config, run.path, known, dataset, channels=data["channels"], bits=data.get("bits"))
    tell(augmentation_told(dataset, config.flip))
    return _assemble(
        config, config.resolved_recipe(), run, ranks, device, dataset, run.survival, run.untrained(), tell
    )  # fmt: skip


def _trainable(
    config: TrainConfig, place: Path, known: Recorded | None, dataset: Dataset | None, channels: int | None = None,
    bits: int | None = None,
) -> Dataset:  # fmt: skip
    """Return the data of a run, those that it was begun with where it was."""
    if dataset is None:
        dataset = open_training_data(config, known, place, channels=channels, bits=bits)
        return trainable(dataset, config.limit, config.seed)
    dataset = trainable(dataset, config.limit, config.seed)
    require_same_images(place, known, dataset)
    return dataset


def _known_images(run: Run, say: Say) -> Recorded:
    """Return the images of a run; of one that does not say which they are, only the classes and the shape are known."""
    known = run.images()
    if known is not None:
        return known
    if run.begun:
        say(f"{run.path} does not say which images it was trained on: splits are drawn anew by its seed")
    data = run.record["data"]
    return Recorded(tuple(data["classes"]), (data["channels"], data["height"], data["width"]))


def _found_run(config: TrainConfig, out: Path, ranks: Ranks) -> Run | None:
    """Return the run in ``out`` if these options go on with it, or None where the place is free."""
    run = runs.open_run(out) if ranks.from_first(runs.is_run(out)) else None
    if run is None:
        if ranks.first:
            runs.check_free(out)
        return None
    if "config" not in run.record:
        raise UserError(f"{out} holds imported weights, not a run to go on with; name another --out")
    if changed := difference(run.record["config"], config, images_known=(out / runs.IMAGES).is_file()):
        raise UserError(f"{out} is a run with other options: {changed}; use those, or name another --out")
    return run


def _record(
    config: TrainConfig, recipe: Recipe, spec: Spec, rule: Survival, chain: Chain, dataset: Dataset, ranks: Ranks,
    device: torch.device, say: Say,
) -> dict:  # fmt: skip
    """Return what a new run is: its options, and what was chosen by measuring."""
    return runs.record_of(
        spec=spec, survival=rule, data=_data_record(dataset, config), where=device,
        normalization=NORMALIZATIONS[recipe.normalization](dataset.split("train")),
        more={
            "config": config.to_json(),
            "recipe": asdict(recipe),
            "ends": [total := total_steps(recipe, len(dataset.split("train")))],
            "augmentation": augmentation_record(dataset, config.flip),
            "choices": choose(config, recipe, chain, dataset, total, ranks, device, say),
        },
    )  # fmt: skip


def _assemble(
    config: TrainConfig, recipe: Recipe, run: Run, ranks: Ranks, device: torch.device, dataset: Dataset,
    rule: Survival, chain: Chain, say: Say,
) -> Session:  # fmt: skip
    chosen, normalization = run.record["choices"]["chosen"], run.normalization
    assert normalization is not None, "a run that was trained here has one"
    arithmetic = Arithmetic(chosen["precision"], chosen["memory_format"])
    optimizer = make_optimizer(place(chain, arithmetic, device), recipe, frozen=config.dropped == "frozen")
    position = _restore(run, ranks, chain, optimizer, say)
    ends = _ends(run, total_steps(recipe, len(dataset.split("train"))), position.step)
    if ranks.first and ends != _recorded_ends(run, ends):
        run = runs.extended(run, {"config": config.to_json(), "recipe": asdict(recipe), "ends": list(ends)})
    pace = ranks.from_first(pace_of(run, config.threads, device, position.step) if ranks.first else None)
    assert isinstance(pace, Pace)
    chain.train()
    if config.compile:
        compile_branches(chain)
    return Session(
        config=config,
        recipe=recipe,
        run=run,
        ranks=ranks,
        device=device,
        dataset=dataset,
        normalization=normalization,
        augmentation=default_augmentation(dataset, config.flip),
        rule=rule,
        arithmetic=arithmetic,
        chain=chain,
        engine=_distributed(engine_of(chain, config.checkpointing), rule, ranks),
        optimizer=optimizer,
        position=position,
        pace=pace,
        ends=ends,
    )


def _ends(run: Run, total: int, step: int) -> tuple[int, ...]:
    """Return where the phases of a run end that has done some steps and is to do so many.

    Raises:
        UserError: It has done more already.
    """
    ends = _recorded_ends(run, (total,))
    if total == ends[-1]:
        return ends
    if total <= step:
        raise UserError(f"{run.path} has done {step} steps and the epochs asked for are {total}: ask for more")
    return (*ends, total) if step >= ends[-1] else (*ends[:-1], total)


def _recorded_ends(run: Run, otherwise: tuple[int, ...]) -> tuple[int, ...]:
    """Return where a run's phases end; records that are older than that have one phase."""
    return tuple(run.record.get("ends", otherwise))


def _distributed(engine: nn.Module, rule: Survival, ranks: Ranks) -> nn.Module:
    """Wrap the engine so that gradients are means over all processes.

    No ``device_ids``: with them the wrapper would move the gates, which live on the host, to the device.

    Closed units have no gradient, which the wrapper must look for; that costs a walk through the graph, so only
    where units close.
    """
    if ranks.world == 1:
        return engine
    return DistributedDataParallel(engine, find_unused_parameters=rule.random)


def _data_record(dataset: Dataset, config: TrainConfig) -> dict:
    names = ("name", "classes", "channels", "height", "width", "bits", "notes")
    return {
        "source": config.data,
        "resize": config.resize,
        **{name: getattr(dataset, name) for name in names},
    }


def _spec(config: TrainConfig, dataset: Dataset) -> Spec:
    spec = spec_of(
        config.network,
        classes=len(dataset.classes),
        channels=dataset.channels,
        block=config.block,
        shortcut=config.shortcut,
        normed=config.norm,
        dropout=config.dropout,
        zero_init=bool(config.zero_init),
    )
    wanted = config.resolved_recipe().zero_init and config.zero_init is None
    return spec.zero_initialised() if wanted else spec


def _for_depth(recipe: Recipe, spec: Spec) -> Recipe:
    """Return the recipe without its warm-up where that is meant for deeper networks."""
    shallow = recipe.warmup is not None and spec.depth < recipe.warmup.from_depth
    return replace(recipe, warmup=None) if shallow else recipe


def _refuse_lone_image(chain: Chain, dataset: Dataset, spec: Spec, batch_size: int, ranks: Ranks) -> None:
    """Raise a UserError where a norm would meet one value per channel, which has no variance."""
    last = len(dataset.split("train")) % batch_size or batch_size
    if last // ranks.world > 1:
        return
    probe = torch.zeros(1, dataset.channels, dataset.height, dataset.width)
    try:
        with torch.no_grad(), still_statistics([chain]):
            chain(probe, [1.0] * len(chain))
    except ValueError:
        raise UserError(
            f"{spec.name} cannot be trained on a mini-batch of 1 image of {dataset.height}×{dataset.width}, the last of"
            " every epoch: its last maps are one pixel; choose another --batch-size or --size"
        ) from None


def _parameters(chain: Chain) -> int:
    return sum(parameter.numel() for parameter in chain.parameters())


def _restore(run: Run, ranks: Ranks, chain: Chain, optimizer: SGD, say: Say) -> Position:
    """Fill chain and optimizer from the newest whole checkpoint and return its position, or the start's."""
    saved = checkpoints.newest(run.checkpoints, say) if ranks.first else None
    path = ranks.from_first(saved and str(saved.path))
    if path is None:
        return Position()
    saved = saved or checkpoints.load(Path(str(path)))
    chain.load_state_dict(saved.tensors("weights"))
    parameters = dict(chain.named_parameters())
    for name, buffer in saved.tensors("momentum").items():
        parameter = parameters[name]
        optimizer.state[parameter] = {"momentum_buffer": torch.empty_like(parameter).copy_(buffer)}
    if saved.step:
        say(f"resumed from step {saved.step}")
    return Position.from_json(saved.state)


class NotFiniteError(ArithmeticError):
    """The loss, or a weight, is not a finite number; no checkpoint holds it."""


def not_finite(session: Session, what: str, lr: float) -> NotFiniteError:
    """Return the error that says where a run left the finite numbers, and which checkpoint is the last good one."""
    last = checkpoints.last_good(session.run.checkpoints)
    return NotFiniteError(f"{what} is not finite at step {session.position.step}, learning rate {lr:g}; {last}")


def save(session: Session) -> None:
    """Write a checkpoint of everything that the run needs to go on to the same bits.

    Process 0 writes, and every process learns whether it could, so that none waits for one that has stopped.

    Raises:
        SaveError: It could not be written.
        NotFiniteError: A weight is not a finite number.
    """
    _agreed(session, _write)


def save_best(session: Session, validation: Sums | None) -> None:
    """Keep the weights after an epoch beside the last ones, where its validation is the best so far.

    The best has the fewest errors, and among those the lowest loss. A resumed run that comes by an epoch again
    compares it with what it kept before, and ends with the same one.

    Raises:
        SaveError: They could not be written.
        NotFiniteError: A weight is not a finite number.
    """
    if validation is None or not math.isfinite(validation.mean_loss):
        return
    found = {"error_percent": validation.error_percent, "loss": validation.mean_loss}

    def write(session: Session) -> None:
        best, position = checkpoints.newest(session.run.best, lambda _: None), session.position
        if best is None or (*found.values(),) < (best.state["error_percent"], best.state["loss"]):
            state = {"epoch": position.step / session.steps_per_epoch, **found}
            tensors = {"weights": session.chain.state_dict()}
            checkpoints.save_only(session.run.best, position.step, tensors=tensors, state=state)

    _agreed(session, write)


def _agreed(session: Session, write: Callable[[Session], None]) -> None:
    failure = session.ranks.from_first(_written(session, write) if session.ranks.first else None)
    if isinstance(failure, Exception):
        raise failure


def _written(session: Session, write: Callable[[Session], None]) -> SaveError | NotFiniteError | None:
    """Write a checkpoint; return what was in the way."""
    if not all(bool(weight.isfinite().all()) for weight in session.chain.state_dict().values()):
        return not_finite(session, "a weight", session.position.tally.lr)
    try:
        write(session)
    except SaveError as error:
        return error
    return None


def _write(session: Session) -> None:
    names = {id(parameter): name for name, parameter in session.chain.named_parameters()}
    momentum = {
        names[id(parameter)]: state["momentum_buffer"]
        for parameter, state in session.optimizer.state.items()
        if state.get("momentum_buffer") is not None
    }
    checkpoints.save(
        session.run.checkpoints,
        session.position.step,
        tensors={"weights": session.chain.state_dict(), "momentum": momentum},
        state=session.position.to_json(),
    )
