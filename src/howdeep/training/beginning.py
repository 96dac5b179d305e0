"""How a run begins or goes on: data, network, recipe, place, state; from its options, or from its folder."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from howdeep.chain import Chain
from howdeep.data import Dataset, augmentation_line, augmentation_of, augmentation_record
from howdeep.data.recorded import recorded
from howdeep.data.sampling import trainable
from howdeep.runs import folder as runs
from howdeep.runs.folder import Run
from howdeep.runs.prepared import Prepared
from howdeep.runtime.modes import frozen_statistics, norms_of
from howdeep.runtime.ranks import Ranks
from howdeep.survival import Survival
from howdeep.training.choices import settle
from howdeep.training.config import TrainConfig, difference
from howdeep.training.feed import SplitFeed
from howdeep.training.images import images_of, open_training_data, require_same_images
from howdeep.training.recipes import Recipe
from howdeep.training.session import Place, Session, arithmetic_of, session_of
from howdeep.training.start import Initial, Start, start_of
from howdeep.util.errors import UserError
from howdeep.util.records import read_from


def prepare(config: TrainConfig, out: Path, place: Place, dataset: Dataset | None = None) -> Session:
    """Return a session at its start, or where the run in the folder left off.

    In this order: a run in the folder resumes from its newest whole checkpoint; an empty or missing folder becomes a
    new run; anything else is refused.

    Args:
        config: What to do.
        out: The run folder.
        place: Where.
        dataset: What :func:`howdeep.training.images.open_training_data` gives, where it is open already.

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
    with read_from(out / runs.RECORD, "name another --out"):
        choices, _ = run.record["choices"], run.record["config"]["network"]
        _ = arithmetic_of(choices), choices["chosen"]["threads"], choices["trials"]
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
    def given(self) -> bool:
        """Whether it began with given weights, or with those of a cut."""
        return "start" in self.run.record or "removed" in self.run.record

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
            folder, known = self.out, images_of(self.run, self.place.report)
        if given is None:
            return open_training_data(config, known, folder, self.origin.prepared)
        dataset = trainable(given, config.limit, config.seed)
        if folder is not None:
            require_same_images(folder, known, dataset)
        return dataset

    def session(self, dataset: Dataset) -> Session:
        """Return the session on its data."""
        config, place, run = self.config, self.place, self.run
        recipe = config.resolved_recipe()
        initial = self.origin.network(dataset, recipe)
        chain = initial.chain
        recipe = recipe.for_depth(initial.network.get("depth", len(chain))).settled(given=self.origin.given)
        _refuse_lone_image(chain, config.network, dataset, recipe.batch_size, place.ranks)
        augmented = augmentation_line(dataset, config.augmentation, config.flip)
        for line in (*dataset.notes, size_line(config.network, chain), *initial.lines, augmented, *recipe.lines):
            place.report(line)
        feed = SplitFeed(
            dataset=dataset,
            normalization=initial.normalization,
            augmentation=augmentation_of(dataset, config.augmentation, config.flip),
            recipe=recipe,
            seed=config.seed,
            device=place.device,
            workers=config.workers,
            ranks=place.ranks,
        )
        choices = None if run is None else run.record["choices"]
        recipe, feed, choices = settle(chain, recipe, feed, config, place, start=initial.record, choices=choices)
        return session_of(config, place, self._run_of(feed, recipe, initial, choices), feed, recipe, chain)

    def _run_of(self, feed: SplitFeed, recipe: Recipe, initial: Initial, choices: dict) -> Run:
        """Return the run in the folder, or the new one, with the record of what it is and of its images."""
        run, first = self.run, self.place.ranks.first
        if run is None:
            record = self._record(feed, recipe, initial, choices)
            images = recorded(feed.dataset).after(self.origin.known)
            return runs.create(self.out, record, images) if first else Run(self.out, record)
        if first and not run.begun:
            run.keep_images(recorded(feed.dataset).after(self.origin.known))
        return run

    def _record(self, feed: SplitFeed, recipe: Recipe, initial: Initial, choices: dict) -> dict:
        """Return what a new run is: its options, where it begins, and what was chosen by measuring."""
        config, dataset, prepared, rule = self.config, feed.dataset, self.origin.prepared, initial.chain.rule
        assert isinstance(rule, Survival)
        more = {
            "config": config.to_json(),
            "recipe": asdict(recipe),
            "ends": [recipe.total(feed.steps_per_epoch)],
            "augmentation": augmentation_record(dataset, config.augmentation, config.flip),
            "choices": choices,
            **initial.cut,
        }
        more |= {} if initial.record is None else {"start": initial.record}
        return runs.record_of(
            spec=initial.network,
            survival=rule,
            data=runs.data_record(dataset, source=config.data, resize=prepared.resize, crop=prepared.crop),
            normalization=initial.normalization,
            where=self.place.device,
            more=more,
        )


def _refuse_lone_image(chain: Chain, name: str, dataset: Dataset, batch_size: int, ranks: Ranks) -> None:
    """Raise a UserError where a norm would meet one value per channel, which has no variance."""
    last = len(dataset.split("train")) % batch_size or batch_size
    if last // ranks.world > 1:
        return
    probe = torch.zeros(1, *dataset.shape)
    try:
        with torch.no_grad(), frozen_statistics(norms_of(chain)):
            chain(probe, [1.0] * len(chain))
    except ValueError:
        raise UserError(
            f"{name} cannot be trained on a mini-batch of 1 image of {dataset.height}×{dataset.width}, the last of"
            " every epoch: its last feature maps are one pixel; choose another --batch-size or --size"
        ) from None


def size_line(name: str, chain: Chain) -> str:
    """Return in one line how large a network is."""
    parameters = sum(parameter.numel() for parameter in chain.parameters())
    return f"{name}: {len(chain)} units, {parameters:,} parameters"
