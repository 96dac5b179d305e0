"""Where a new run begins: its network, with initial weights, those of a file or library, or those of another run."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch

from howdeep.chain import Chain
from howdeep.convert.classifier import adapt_channels, replace_classifier
from howdeep.convert.libraries import is_library_name, library_network, published_as
from howdeep.data import NORMALIZATIONS, Dataset, Normalization
from howdeep.data.normalization import normalization_of
from howdeep.data.recorded import Recorded
from howdeep.networks import build, spec_from_json, spec_of, spec_to_json
from howdeep.networks.counting import refuse_too_small
from howdeep.runs.folder import Run, open_run
from howdeep.runs.options import TargetOptions
from howdeep.runs.prepared import Prepared
from howdeep.runs.target import Target, open_target, run_target
from howdeep.survival import Survival
from howdeep.training.config import TrainConfig
from howdeep.training.recipes import Recipe
from howdeep.util.errors import UserError
from howdeep.util.options import refuse_without_use
from howdeep.util.text import Report

ARCHITECTURE = ("block", "shortcut", "norm", "dropout", "zero_init")
"""Options that say how a network of the catalogue is built."""


@dataclass(frozen=True)
class Initial:
    """The network of a new run."""

    chain: Chain
    """In training mode, with its rule for the gates."""
    network: dict
    """What ``run.json`` says of it, from which it can be built again."""
    normalization: Normalization
    """How its pixels are normalised."""
    lines: tuple[str, ...] = ()
    """What was kept, changed and drawn anew, for the user."""
    record: dict | None = None
    """The same for ``run.json``; None for initial weights."""
    cut: dict = field(default_factory=dict)
    """What ``run.json`` says of a cut that it went through before."""
    drop_path: float = 0.0
    """The highest probability with which its library closes a branch in training, which it is trained without."""


@dataclass(frozen=True)
class Start:
    """What is known of a new run before its data are read."""

    config: TrainConfig
    target: Target | None
    """The network whose weights it begins with; None for initial weights."""
    report: Report

    @property
    def given(self) -> bool:
        """Whether it begins with given weights."""
        return self.target is not None

    @cached_property
    def prepared(self) -> Prepared:
        """How its images are prepared."""
        config, target = self.config, self.target
        if target is not None:
            # A network of colour images is shown gray ones as such; another learns to read colours.
            channels = 3 if target.channels == 3 else None
            resize = target.resize if config.resize == "crop" else config.resize
            return Prepared(config.size or target.side, resize, channels, crop=target.crop)
        if is_library_name(config.network):
            return Prepared(published_as(config.network, config.size).size, config.resize, 3)
        return Prepared(config.size, config.resize)

    @property
    def known(self) -> Recorded | None:
        """The images of the run that it begins with: those it was trained on are in no other split."""
        run = self.target.run if self.target else None
        return run and run.images()

    def network(self, dataset: Dataset, recipe: Recipe) -> Initial:
        """Return the network for some data.

        Raises:
            UserError: The network cannot read these images, cannot have these classes, or cannot be trained.
        """
        initial = self._fresh(dataset, recipe) if self.target is None else self._given(self.target, dataset, recipe)
        chain, rule = initial.chain, Survival.parse(recipe.survival, self.config.survival_mode)
        rule.check(len(chain))
        recipe.check(self.config.network, len(chain), new=bool(initial.record and initial.record["reset"]))
        chain.rule = rule
        chain.train()
        if not initial.drop_path or rule.random:
            return initial
        path, name = f"drop-path of up to {initial.drop_path:g}", self.config.network
        said = f"{path}, which {name} has in its library, is left to --survival"
        return replace(initial, lines=(*initial.lines, said))

    def _fresh(self, dataset: Dataset, recipe: Recipe) -> Initial:
        """Return a network with initial weights."""
        config = self.config
        normalization = self._normalization(None, dataset, recipe)
        if is_library_name(config.network):
            torch.manual_seed(config.seed)
            library = library_network(config.network, fresh=True, size=self.prepared.size, classes=len(dataset.classes))
            chain = library.chain()
            return Initial(chain, library.record, normalization, drop_path=chain.modes.drop_path)
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
        if recipe.zero_init and config.zero_init is None:
            spec = spec.zero_initialised()
        refuse_too_small(spec, dataset.height, dataset.width)
        return Initial(build(spec, seed=config.seed), spec_to_json(spec), normalization)

    def _given(self, target: Target, dataset: Dataset, recipe: Recipe) -> Initial:
        """Return a network with given weights, for other channels and classes where the data have others."""
        chain, network, lines = target.chain, dict(target.network or {}), []
        if "library" not in network:
            refuse_too_small(spec_from_json(network), dataset.height, dataset.width)
        normalization = self._normalization(target.normalization, dataset, recipe)
        if target.normalization is None and not self.config.mean:
            lines.append(f"{target.name} does not say how its pixels were normalised: they are by the training images")
        example = torch.zeros(1, target.channels, dataset.height, dataset.width)
        if dataset.channels != target.channels:
            changed = adapt_channels(chain, example, dataset.channels)
            network["channels"], example = dataset.channels, torch.zeros(1, *dataset.shape)
            lines.append(f"channels: {changed} reads {dataset.channels}, as it read {target.channels} before")
        reset, said = self._classifier(target, chain, example, dataset)
        network["classes"] = len(dataset.classes)
        lines.append(said)
        origin = {name: getattr(self.config, name) for name in ("weights", "pretrained", "from_run")}
        record = {**{name: value for name, value in origin.items() if value}, "reset": reset, "lines": lines}
        before = target.run.record if target.run else {}
        cut = {name: before[name] for name in ("removed", "first", "folded") if name in before}
        return Initial(chain, network, normalization, tuple(lines), record, cut, target.drop_path)

    def _normalization(self, own: Normalization | None, dataset: Dataset, recipe: Recipe) -> Normalization:
        """Return how pixels are normalised: as asked for, as for given weights, or by the data."""
        given = normalization_of(self.config.mean, self.config.std, dataset.channels)
        if own is not None and own.mean.shape[1:] not in ((1, 1), (dataset.height, dataset.width)):
            own = Normalization(own.mean.mean((1, 2), keepdim=True), own.std)  # a mean image of another size
        return given or own or NORMALIZATIONS[recipe.normalization](dataset.split("train"))

    def _classifier(
        self, target: Target, chain: Chain, example: torch.Tensor, dataset: Dataset
    ) -> tuple[list[str], str]:
        """Give a network the classes of the data; return the parameters that are new, and a line."""
        choice, here = self.config.classifier, len(dataset.classes)
        order = _order(target, dataset)
        if order is None and choice == "keep":
            if target.classes is None and here == target.outputs:
                return [], f"classifier: kept, its {here:,} classes are taken to be in the order of the data's"
            known = "does not know their names" if target.classes is None else "knows them by other names"
            raise UserError(
                f"--classifier keep is not allowed: {dataset.name} has {here:,} classes, and {target.name} with"
                f" {target.outputs:,} {known}"
            )
        if order is None or choice == "new":
            reset = replace_classifier(chain, example, here, seed=self.config.seed)
            others = len(chain.state_dict()) - len(reset)
            return reset, f"classifier: new, {here:,} classes ({', '.join(reset)}); {others:,} other tensors are kept"
        if order != list(range(target.outputs)):
            before = {name: tensor.detach() for name, tensor in chain.named_parameters()}
            with torch.no_grad():
                for name in replace_classifier(chain, example, here, seed=self.config.seed):
                    chain.get_parameter(name).copy_(before[name][order])
        which = "all" if here == target.outputs else f"{here:,} of {target.outputs:,}"
        return [], f"classifier: kept, {which} classes are known by name"


def _order(target: Target, dataset: Dataset) -> list[int] | None:
    """Return the outputs of a network that are the classes of the data; None where some are not known by name."""
    if target.names is not None:
        return target.names.order(dataset.classes)
    known = target.classes or ()
    return [known.index(name) for name in dataset.classes] if set(dataset.classes) <= set(known) else None


def start_of(config: TrainConfig, report: Report) -> Start:
    """Return where a new run begins; the data are not read.

    Args:
        config: What to do.
        report: Receives a line for whatever of given weights was left.

    Raises:
        UserError: There is no such network, its weights cannot be read or are those of another one.
    """
    library = is_library_name(config.network)
    if library:
        refuse_without_use(config, ARCHITECTURE, f"for {config.network}: its library says how it is built")
    origins = {"--weights": config.weights, "--pretrained": config.pretrained, "--from": config.from_run}
    given = [name for name, value in origins.items() if value]
    if len(given) > 1:
        raise UserError(f"{given[0]} is not allowed with {given[1]}: a network begins with one set of weights")
    if config.key is not None and config.weights is None:
        raise UserError(f"--key {config.key} is not allowed without --weights: it says which of that file are meant")
    if not given:
        alone = ("tune",) if config.tune == "classifier" else ()
        frozen = ("freeze",) if config.freeze else ()
        refuse_without_use(config, ("classifier", *alone, *frozen), "without given weights: all of it is new")
        return Start(config, None, report)
    what = ARCHITECTURE if config.from_run else ARCHITECTURE[2:]
    refuse_without_use(config, what, "with given weights, whose network it is")
    target = _of_run(config, report) if config.from_run else _foreign(config, library, report)
    if target.channels not in (1, 3):
        raise UserError(f"{target.name} reads images of {target.channels} channels: images here have 1 or 3")
    return Start(config, target, report)


def _of_run(config: TrainConfig, report: Report) -> Target:
    """Return the network of another run, for images of another size where that is asked for."""
    run = open_run(config.from_run or "")
    if run.network_name != config.network:
        raise UserError(f"--from {run.path} is not allowed for {config.network}: it holds {run.network_name}")
    network = run.record["network"]
    size, own = config.size, network.get("size")
    if size is not None and own is not None and size != own:
        run = Run(run.path, {**run.record, "network": {**network, "size": size}})
    try:
        return run_target(run, report)
    except RuntimeError:
        raise UserError(f"--size {size} is not allowed: the weights of {run.path} are for {own}×{own}") from None


def _foreign(config: TrainConfig, library: bool, report: Report) -> Target:
    """Return a network with the weights of a file or of its library."""
    options = TargetOptions(
        target=config.network,
        weights=None if config.weights is None else Path(config.weights),
        pretrained=config.pretrained,
        size=config.size if library else None,
        key=config.key,
    )
    return open_target(options, block=config.block, shortcut=config.shortcut, report=report)
