"""What a training run is asked to do: one flat, frozen record, which is also the command line's."""

import math
from dataclasses import asdict, dataclass, fields, replace
from importlib.util import find_spec
from types import NoneType
from typing import Annotated, Literal, get_args, get_origin, get_type_hints

import tyro.conf

from howdeep.training.recipes import Freeze, Keep, Kind, Recipe, Statistics, Tune, recipe_of
from howdeep.util.errors import UserError, unknown
from howdeep.util.options import (
    Block,
    Data,
    Device,
    Flip,
    Key,
    OptionalFloats,
    OptionalInt,
    Resize,
    Shortcut,
    SkipBroken,
    TrainingLimit,
    TrainingPrecision,
    TrainingThreads,
    Workers,
    check_threads,
    convert,
)


def _meta(metavar: str, default: str = "") -> object:
    return tyro.conf.arg(metavar=metavar, help_behavior_hint=default)


RECIPES_OWN = "(default: the recipe's)"
RecipeFloat = Annotated[float | None, _meta("FLOAT", RECIPES_OWN)]
RecipeInt = Annotated[int | None, _meta("INT", RECIPES_OWN)]
OptionalText = Annotated[str | None, _meta("FILE")]
RecipeOptimizer = Annotated[Kind | None, _meta("{sgd,adamw,muon}", RECIPES_OWN)]
RecipeStatistics = Annotated[Statistics | None, _meta("{batch,frozen,auto}", RECIPES_OWN)]
RecipeTune = Annotated[Tune | None, _meta("{all,classifier}", RECIPES_OWN)]
RecipeFreeze = Annotated[Freeze | None, _meta("auto|N", RECIPES_OWN)]
RecipeKeep = Annotated[Keep | None, _meta("{best,last}", RECIPES_OWN)]
RecipeRule = Annotated[str | None, _meta("RULE", RECIPES_OWN)]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Options of a run; those left None are the recipe's."""

    network: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NETWORK")]
    """Name in the catalogue, such as cifar_resnet56; or timm:NAME, torchvision:NAME, hf-model:owner/name."""
    data: Data
    weights: OptionalText = None
    """Begin with the weights of this file, instead of initial ones."""
    key: Key = None
    pretrained: bool = False
    """Begin with the published weights of a torchvision or timm network, which the library downloads."""
    from_run: Annotated[str | None, tyro.conf.arg(name="from", metavar="RUN", help_behavior_hint="")] = None
    """Begin with the weights of a run folder of this network, on whatever data."""
    classifier: Literal["auto", "keep", "new"] = "auto"
    """Keep the classifier of given weights, or begin with a new one; auto keeps it where it
    knows all classes of the data by name."""
    mean: OptionalFloats = None
    """Mean per channel, of pixels in [0, 1]; without it that of given weights, or the data's."""
    std: OptionalFloats = None
    """Standard deviation per channel; without it that of given weights, or the data's."""
    recipe: Annotated[str, _meta("NAME", "(default: fast, or finetune with weights)")] = ""
    """One of howdeep recipes: finetune, fast, extendable, or one of the literature, such as he2015."""
    epochs: RecipeFloat = None
    """Passes over the training images."""
    batch_size: RecipeInt = None
    """Images per mini-batch, over all devices."""
    lr: RecipeFloat = None
    """Highest learning rate; the recipe's schedule is scaled to it."""
    weight_decay: RecipeFloat = None
    """L2 penalty."""
    optimizer: RecipeOptimizer = None
    """Rule of the update; Muon is for the matrices of units, with AdamW for the rest."""
    layer_decay: RecipeFloat = None
    """Learning rate of a unit, as a share of that of the next one on the way to the head."""
    clip: RecipeFloat = None
    """Largest L2 norm of all gradients together."""
    ema: RecipeFloat = None
    """Share of the weights' moving average that stays in a step, such as 0.999; the run stands for the average."""
    norm_statistics: RecipeStatistics = None
    """What norms normalise by in training: their mini-batch, or running statistics, which are left
    as they are; auto freezes them on given weights."""
    tune: RecipeTune = None
    """What of given weights is trained: all, or a new classifier alone, by regression."""
    freeze: RecipeFreeze = None
    """Keep the stem and the first N units of given weights as they are; auto more than halves a step."""
    keep: RecipeKeep = None
    """The weights that the run stands for: of the epoch of the best validation, or the last."""
    survival: RecipeRule = None
    """constant, linear:0.5 (stochastic depth), uniform:0.8 or exactly:23 (any 23 units).
    A probability p is that of a unit's survival: timm's drop-path rate is 1 − p."""
    survival_mode: Literal["batch", "sample"] = "batch"
    """Gates per unit and mini-batch, or others for each eighth of its images (exactly: for each image)."""
    dropped: Literal["momentum", "frozen"] = "momentum"
    """Weights of a dropped unit: moved by momentum and weight decay as in the paper's code, or left alone."""
    block: Block = None
    """Kind of unit, where the depth fits both."""
    shortcut: Shortcut = None
    """Zero padding, projection where the shape changes, projection everywhere."""
    norm: bool = True
    """Norm layers; --no-norm shows what they are good for."""
    dropout: float = 0.0
    """Dropout probability inside each branch."""
    zero_init: Annotated[bool | None, _meta("{True,False}", "(default: the recipe's)")] = None
    """Branches return zeros at the start."""
    size: OptionalInt = None
    """Side of the images in pixels; without it that of given weights or of a library's network, or the data's."""
    resize: Resize = "crop"
    augmentation: Literal["auto", "none", "light", "standard", "strong"] = "auto"
    """What is done at random to training images: light crops (small images: shifts) and mirrors,
    standard changes colours and shapes and erases areas too, strong mixes images too (mixup, cutmix);
    auto is light for small images and for fewer than 10,000, else standard."""
    flip: Flip = "auto"
    skip_broken: SkipBroken = False
    limit: TrainingLimit = None
    seed: int = 0
    """Seed of weights, order, augmentation and gates."""
    device: Device = "auto"
    precision: TrainingPrecision = "auto"
    memory_format: Literal["auto", "contiguous", "channels_last"] = "auto"
    """Layout of the activations; auto times a few steps."""
    threads: TrainingThreads = "auto"
    checkpointing: bool = False
    """Compute activations a second time instead of keeping them (activation checkpointing)."""
    compile: bool = False
    """Compile the branches (torch.compile): slow to start."""
    workers: Workers = 2
    checkpoint_every: OptionalInt = None
    """Steps between checkpoints; without it one is written after every epoch, or, where that
    would take over 2 % of the time, after the first epoch that ends 30 s after the last one."""
    record: Literal["none", "flow"] = "none"
    """flow: signal and gradient through the depth, at the start and after every epoch, on 256 training images."""
    log: Literal["none", "tensorboard", "wandb", "mlflow"] = "none"
    """Where numbers go too (each needs the extra of its name); the last two write into the run folder unless
    WANDB_MODE or MLFLOW_TRACKING_URI name a server."""

    def __post_init__(self) -> None:
        given = self.weights is not None or self.pretrained or self.from_run is not None
        object.__setattr__(self, "recipe", self.recipe or ("finetune" if given else "fast"))
        convert(self, str, "data", "weights", "from_run")
        convert(self, tuple, "mean", "std")  # lists, where they were read from a record
        for name in ("epochs", "batch_size", "lr", "size", "limit", "checkpoint_every"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise UserError(f"{name.replace('_', '-')} {value} is not allowed: it must be above 0 and finite")
        for name in ("weight_decay", "workers", "seed"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise UserError(f"{name.replace('_', '-')} {value} is not allowed: it must be at least 0 and finite")
        if not 0 <= self.dropout < 1:
            raise UserError(f"dropout {self.dropout} is not allowed: it must be at least 0 and below 1")
        if self.layer_decay is not None and not 0 < self.layer_decay <= 1:
            raise UserError(f"layer-decay {self.layer_decay} is not allowed: it must be above 0 and at most 1")
        if self.clip is not None and not self.clip > 0:
            raise UserError(f"clip {self.clip} is not allowed: it must be above 0; inf clips nothing")
        if self.ema is not None and not 0 <= self.ema < 1:
            raise UserError(f"ema {self.ema} is not allowed: it must be at least 0 and below 1")
        if self.freeze not in (None, "auto") and not (isinstance(self.freeze, int) and self.freeze >= 0):
            raise UserError(f"freeze {self.freeze} is not allowed: it must be auto, or at least 0")
        for name, known in NAMES.items():
            if (value := getattr(self, name)) is not None and value not in known:
                raise unknown(name.replace("_", "-"), str(value), known)
        if self.log != "none" and ((found := find_spec(self.log)) is None or found.origin is None):
            raise UserError(f"--log {self.log} needs {self.log}: pip install 'howdeep[{self.log}]'")
        check_threads(self.threads)
        recipe_of(self.recipe)

    def resolved_recipe(self) -> Recipe:
        """Return the recipe with the options that were given in place of its own.

        Raises:
            UserError: The optimizer is of another kind than the recipe's, whose learning rate would be far off.
        """
        recipe = recipe_of(self.recipe)
        if self.lr is None and self.optimizer and (self.optimizer == "sgd") != (recipe.optimizer == "sgd"):
            rate = f"the {recipe.schedule.peak:g} of recipe {recipe.name} is for {recipe.optimizer}"
            raise UserError(f"--optimizer {self.optimizer} needs --lr: {rate}")
        if self.epochs is not None:
            recipe = replace(recipe, epochs=self.epochs, steps=None)
        if self.lr is not None:
            recipe = recipe.scaled(self.lr)
        names = ("batch_size", "weight_decay", "survival", "zero_init", "optimizer", "layer_decay", "clip", "ema")
        names += ("norm_statistics", "tune", "freeze", "keep")
        return replace(recipe, **{name: value for name in names if (value := getattr(self, name)) is not None})

    def to_json(self) -> dict:
        """Return the options as plain data."""
        return asdict(self)


def _names() -> dict[str, tuple[str, ...]]:
    """Return what options may be called, of those that have names to choose from alone."""
    names = {}
    for name, kind in get_type_hints(TrainConfig).items():
        kinds = [kind] if get_origin(kind) is Literal else [one for one in get_args(kind) if one is not NoneType]
        if [get_origin(one) for one in kinds] == [Literal]:
            names[name] = get_args(kinds[0])
    return names


NAMES = _names()
"""What such options may be; the command line knows it from their types too."""

RESUMABLE = ("data", "workers", "log", "checkpoint_every", "device", "threads")
"""Options that change nothing but roundings, so that a run may resume with others: on another machine, say. What the
data are called changes nothing; the images are compared.

``record`` is not one of them: a run that resumes with another would have holes in its record.
"""


def difference(old: dict, new: TrainConfig) -> str | None:
    """Return the first option in which a run and a new command differ, as a line for the user, or None.

    A run whose schedule can be extended may be given other epochs.

    Args:
        old: The options of the run; one that did not exist when it was begun has its default.
        new: Those of the command.
    """
    free = (*RESUMABLE, "epochs") if recipe_of(new.recipe).schedule.extendable else RESUMABLE
    for field in fields(new):
        before, now = old.get(field.name, field.default), getattr(new, field.name)
        before = tuple(before) if isinstance(before, list) else before
        if field.name not in free and before != now:
            return f"--{field.name.removesuffix('_run').replace('_', '-')} was {before} and is now {now}"
    return None
