"""A chain in memory, trained on loaders by the loop of a run folder; nothing is written."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack, overload

from rich.console import Console
from torch import Tensor, distributed

from howdeep.chain import Chain
from howdeep.convert.classifier import replace_classifier
from howdeep.data import Dataset
from howdeep.data.loaders import Loader, LoaderBatches
from howdeep.runtime import device as devices
from howdeep.runtime.modes import evaluating, norms_of
from howdeep.runtime.ranks import Ranks, this_process
from howdeep.runtime.timing import threads_of
from howdeep.survival import Survival
from howdeep.training.beginning import size_line
from howdeep.training.choices import settle
from howdeep.training.config import TrainConfig
from howdeep.training.feed import LoaderFeed
from howdeep.training.log import Curves, Epoch, print_line
from howdeep.training.loop import TrainResult, kept_line, to_the_end
from howdeep.training.loop import train as train_into
from howdeep.training.recipes import Freeze, Keep, Kind, Statistics, Tune
from howdeep.training.session import Place, Session, session_of
from howdeep.training.state import Memory
from howdeep.util.errors import UserError, unknown
from howdeep.util.options import Threads
from howdeep.util.records import from_json
from howdeep.util.text import Report

CLASSIFIERS = ("keep", "new")
"""What can be asked of a chain's; what its classes are called, a chain does not know."""


@dataclass(frozen=True)
class Trained:
    """A chain that was trained in memory, and what was measured meanwhile."""

    chain: Chain = field(repr=False)
    """The network that was given, with the weights that the training stands for, in evaluation mode."""
    epochs: tuple[Epoch, ...]
    """Losses and errors, in order."""
    kept: float
    """The epoch whose weights these are."""
    validation_error_percent: float | None
    """Of these weights; None without validation images."""
    validation_loss: float | None
    """Mean cross-entropy in nats; None as well where it is not finite."""
    seconds: float
    """Training time, evaluation left out."""

    @property
    def curves(self) -> Curves:
        """The same as a record that can be looked at: a finding, a table, a chart."""
        return Curves(network="the chain", data="its loaders", units=len(self.chain), epochs=self.epochs, test=None)


class ChainOptions(TypedDict, total=False):
    """Options of a training in memory: those of :class:`TrainConfig` that loaders and the chain leave open."""

    recipe: str
    """One of ``howdeep recipes``; ``finetune`` without it."""
    epochs: float
    """Passes over the training loader."""
    lr: float
    """Highest learning rate; the recipe's schedule is scaled to it."""
    weight_decay: float
    """L2 penalty."""
    optimizer: Kind
    """Rule of the update."""
    layer_decay: float
    """Learning rate of a unit, as a share of that of the next one on the way to the head."""
    clip: float
    """Largest L2 norm of all gradients together."""
    ema: float
    """Share of the weights' moving average that stays in a step; the chain ends with the average."""
    norm_statistics: Statistics
    """What norms normalise by; ``auto`` is ``frozen`` where running statistics were ever moved, else ``batch``."""
    classifier: Literal["keep", "new"]
    """``new``: the last linear layer is another one, of as many classes as the training labels tell apart, and begins
    as the logistic regression on what it reads of one pass of the training loader; one of :func:`howdeep.loaders`
    does not augment them then. A module that was unravelled keeps its own."""
    tune: Tune
    """``classifier`` trains nothing beyond that regression."""
    freeze: Freeze
    """The stem and so many first units keep their weights and statistics; ``auto`` more than halves a
    step."""
    keep: Keep
    """The weights that the chain ends with: of the best epoch, or the last."""
    survival: str
    """Rule for the gates; without it the chain's own, else the recipe's."""
    survival_mode: Literal["batch", "sample"]
    """One draw per unit and mini-batch, or one per unit and image."""
    dropped: Literal["momentum", "frozen"]
    """Weights of a dropped unit: moved by momentum and weight decay, or left alone."""
    seed: int
    """Of gates, dropout and the order of single images."""
    precision: Literal["auto", "fp32", "bf16"]
    """Arithmetic of the activations; ``auto`` times a few steps."""
    memory_format: Literal["auto", "contiguous", "channels_last"]
    """Layout of the activations; ``auto`` times a few steps."""
    threads: Threads
    """Threads of the host; ``auto`` times a few steps."""
    checkpointing: bool
    """Compute activations a second time instead of keeping them."""
    compile: bool
    """Compile the branches (torch.compile)."""


def train_chain(
    chain: Chain,
    training: Loader,
    validation: Loader | None = None,
    *,
    out: None = None,
    console: Console | None = None,
    **options: Unpack[ChainOptions],
) -> Trained:
    """Train a chain, in place, on loaders; nothing is written, and nothing can be resumed.

    Args:
        chain: The network, on the device that is to compute.
        training: Loader of what it learns (see :mod:`howdeep.data.loaders`). It decides how many images a mini-batch
            has, in which order they come, and what is done to them at random; single images are put together, in an
            order by seed. One of :func:`howdeep.loaders` gives the mini-batches of a run folder of its data and seed.
        validation: Loader of what is chosen by: the best epoch, a new classifier's decay, norm statistics. None keeps
            the last epoch, the classifier and the statistics.
        out: Nothing but None: a run folder says how its network is built again, which a chain does not.
        console: Where lines and the progress bar go; None is standard error.
        options: How it is trained.

    Raises:
        UserError: An option or a loader is not usable, or the network cannot be trained.
        NotFiniteError: Loss or weights stopped being numbers.
        Stopped: SIGINT or SIGTERM arrived.
    """
    if not this_process().alone or (distributed.is_initialized() and distributed.get_world_size() > 1):
        raise UserError("a chain in memory is trained by one process: give chain.to_module() to what starts several")
    if out is not None:
        raise UserError(f"out {out} is not allowed with a chain: train(TrainConfig(…), out) makes a run folder")
    known = ChainOptions.__annotations__
    for name in options:
        if name not in known:
            raise unknown("option of a chain on loaders", name, known)
    console = console or Console(stderr=True)
    if options.get("classifier", "keep") not in CLASSIFIERS:
        raise unknown("classifier", str(options.get("classifier")), CLASSIFIERS)
    config = TrainConfig(**{"network": "chain", "data": "", "recipe": "finetune", "classifier": "keep", **options})
    chain.train()  # refuses a network that cannot be trained as a chain
    learned = [parameter.requires_grad for parameter in chain.parameters()]
    try:
        session = _session(chain, training, validation, config, partial(print_line, console))
        with threads_of(session.pace.threads), devices.repeatable():
            to_the_end(session, console, best=session.recipe.keep == "best")
        return _trained(session)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise UserError(
            "the training loader yields a mini-batch of 1 image, which a norm cannot normalise: let it drop the last"
        ) from None
    finally:
        chain.zero_grad(set_to_none=True)
        chain.eval()
        for parameter, before in zip(chain.parameters(), learned, strict=True):
            parameter.requires_grad_(before)


def _session(chain: Chain, training: Loader, validation: Loader | None, config: TrainConfig, report: Report) -> Session:
    """Return the session of a chain at its start."""
    recipe = config.resolved_recipe()
    train = LoaderBatches(chain, training, name="the training loader", batch_size=recipe.batch_size, soft=True)
    validated = None if validation is None else LoaderBatches(chain, validation, name="the validation loader")
    for loader in (train, validated):
        if loader is not None and not len(loader):
            raise UserError(f"{loader.name} yields nothing")
    recipe.check("the chain", len(chain), new=config.classifier == "new")
    if config.classifier == "new":
        if validated is None:
            raise UserError("classifier new is not allowed without a validation loader, which chooses its decay")
        train.outputs = validated.outputs = train.classes()
    first = next(iter(train)).images
    start = _start(chain, first, train.outputs, config)
    recipe = replace(recipe, batch_size=len(first)).for_depth(len(chain)).settled(given=start is not None)
    if config.survival is not None or not isinstance(chain.rule, Survival):
        chain.rule = Survival.parse(recipe.survival, config.survival_mode)
        chain.rule.check(len(chain))
    for line in (size_line("chain", chain), *recipe.lines):
        report(line)
    place, (images, channels, height, width) = Place(Ranks(), train.device, report), first.shape
    feed = LoaderFeed(train, validated, (max(2, images), channels, height, width), config.seed)
    recipe, feed, choices = settle(chain, recipe, feed, config, place, start=start)
    record = {"ends": [recipe.total(len(train))], "choices": choices, **({} if start is None else {"start": start})}
    return session_of(config, place, Memory(record), feed, recipe, chain)


def _start(chain: Chain, images: Tensor, classes: int, config: TrainConfig) -> dict | None:
    """Return what the record says of given weights, with a new classifier if that is asked for; None for initial ones.

    These are told by their norms, whose running statistics have never moved.
    """
    if config.classifier == "new":
        with evaluating(chain):
            return {"reset": replace_classifier(chain, images[:1], classes, seed=config.seed)}
    statistics = [norm.running_mean for norm in norms_of(chain) if norm.running_mean is not None]
    return {"reset": []} if not statistics or any(bool(mean.any()) for mean in statistics) else None


def _trained(session: Session) -> Trained:
    """Give the chain the weights that it stands for, and return what was measured."""
    chain, run = session.chain, session.run
    assert isinstance(run, Memory)
    lines = [line for line in run.metrics() if line["event"] in ("start", "epoch")]
    epochs, last = tuple(from_json(Epoch, line) for line in lines if line["event"] == "epoch"), lines[-1]
    kept = {"epoch": last.get("epoch", 0.0), "error_percent": last["validation_error_percent"]}
    kept["loss"] = last["validation_loss"]
    if run.best is not None:
        kept = run.best.state
        session.place.report(kept_line(kept))
    chain.load_state_dict(run.best.weights if run.best is not None else session.standing())
    return Trained(chain, epochs, kept["epoch"], kept["error_percent"], kept["loss"], session.position.seconds)


@overload
def train(
    network: TrainConfig, /, out: str | Path, *, console: Console | None = None, dataset: Dataset | None = None
) -> TrainResult: ...
@overload
def train(
    network: Chain,
    /,
    training: Loader,
    validation: Loader | None = None,
    *,
    out: None = None,
    console: Console | None = None,
    **options: Unpack[ChainOptions],
) -> Trained: ...
def train(network: Any, /, *given: Any, **options: Any) -> TrainResult | Trained:
    """Train a network: a run folder from its options, or a chain in memory on loaders.

    ``train(TrainConfig(…), "run")`` is :func:`howdeep.training.loop.train`, which resumes what is there;
    ``train(chain, training, validation, recipe="finetune", epochs=5)`` is :func:`train_chain`, which writes nothing,
    with the options of :class:`ChainOptions`.
    """
    run: Callable = train_chain if isinstance(network, Chain) else train_into
    return run(network, *given, **options)
