"""What a ladder and a fit are asked: families and depths, budgets, how the networks are trained."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro.conf

from howdeep.runtime.options import DeploymentOptions
from howdeep.search.families import FAMILIES, LARGE_SIDE, WIDTHS, Member, plane, usual_depths
from howdeep.training.config import RecipeFloat, RecipeInt, RecipeRule, TrainConfig
from howdeep.training.recipes import recipe_of
from howdeep.util.errors import UserError, unknown
from howdeep.util.options import (
    Data,
    Device,
    Flip,
    OptionalFloat,
    OptionalInt,
    Resize,
    SkipBroken,
    TrainingLimit,
    TrainingPrecision,
    TrainingThreads,
    Workers,
    check_threads,
    convert,
    read_bytes,
    read_count,
    read_names,
    read_seconds,
    read_whole_numbers,
    refuse_without_use,
)

DEEPEST = 110
"""Without ``depths`` a ladder for small images ends here: 1,202 layers take hours on two cores."""
SHARED_WITH_TRAINING = ("data", "size", "flip", "limit", "skip_broken", "device", "precision", "threads")
"""Options that a ladder, a fit and a training have."""


@dataclass(frozen=True, kw_only=True)
class LadderConfig:
    """Options of a ladder; those left None are the recipe's."""

    data: Data
    families: Annotated[str, tyro.conf.arg(metavar="NAME,NAME,…")] = "plain,resnet"
    """plain, resnet, preresnet, wideresnet, densenet or densenet_bc, with commas between."""
    depths: Annotated[
        str | None, tyro.conf.arg(metavar="INT,INT,…", help_behavior_hint="(default: the family's up to 110)")
    ] = None
    """Layers, the same for every family."""
    widths: Annotated[
        str | None, tyro.conf.arg(metavar="INT,INT,…", help_behavior_hint="(default: 1; 4 for wideresnet)")
    ] = None
    """Factors on the literature's channels; every width is a line, and a diagnosis, of its own."""
    seeds: int = 3
    """Runs of every network, with seeds that follow each other."""
    epochs: RecipeFloat = None
    """Equal epochs: passes over the training images of every run."""
    train_budget: Annotated[str | None, tyro.conf.arg(metavar="TIME", help_behavior_hint="")] = None
    """Equal time: training time of all runs together, such as 5m; each gets the same share."""
    recipe: str = "fast"
    """How the networks are trained; see howdeep train --help."""
    batch_size: RecipeInt = None
    """Images per mini-batch."""
    lr: RecipeFloat = None
    """Highest learning rate."""
    survival: RecipeRule = None
    """Such as linear:0.5 (stochastic depth); plain networks, which have no shortcuts, always train without."""
    limit: TrainingLimit = None
    size: Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")] = None
    """Side of the images in pixels."""
    flip: Flip = "auto"
    skip_broken: SkipBroken = False
    seed: int = 0
    """The first seed."""
    device: Device = "auto"
    precision: TrainingPrecision = "auto"
    threads: TrainingThreads = "auto"

    def __post_init__(self) -> None:
        convert(self, str, "data")
        if self.seeds < 1:
            raise UserError(f"--seeds {self.seeds} is not allowed: it must be at least 1")
        if self.epochs is not None and self.train_budget is not None:
            raise UserError("--epochs and --train-budget are not allowed together: equal epochs or equal time")
        for family in self.family_names:
            if family not in FAMILIES:
                raise unknown("family", family, FAMILIES)
        _ = self.budget_seconds, self._given_depths(), self._given_widths(), self.run_config("", "", self.seed)

    @property
    def family_names(self) -> tuple[str, ...]:
        """The families, each once."""
        return read_names("families", self.families)

    @property
    def budget_seconds(self) -> float | None:
        """Training time of all runs together; None where epochs are equal."""
        return None if self.train_budget is None else read_seconds("train-budget", self.train_budget)

    @property
    def all_seeds(self) -> tuple[int, ...]:
        """The seeds of every network's runs."""
        return tuple(range(self.seed, self.seed + self.seeds))

    def plane(self, *, large: bool) -> list[Member]:
        """Return the networks to train: family by family, narrow first, shallow first.

        Args:
            large: Whether images have more than 64 pixels a side.

        Raises:
            UserError: A family has no such depth or width for such images.
        """
        members = []
        for family in self.family_names:
            usual = tuple(depth for depth in usual_depths(family, large=large) if large or depth <= DEEPEST)
            widths = self._given_widths() or (FAMILIES[family].width,)
            members += plane(family, self._given_depths() or usual, widths, large=large)
        return members

    def run_config(self, family: str, network: str, seed: int) -> TrainConfig:
        """Return the options of one run."""
        return TrainConfig(
            network=network,
            survival="constant" if family == "plain" else self.survival,
            seed=seed,
            keep="last",  # equally long trainings are compared
            **{name: getattr(self, name) for name in (*SHARED_WITH_TRAINING, "recipe", "epochs", "batch_size", "lr")},
        )

    def _given_widths(self) -> tuple[int, ...]:
        return () if self.widths is None else read_whole_numbers("widths", self.widths)

    def _given_depths(self) -> tuple[int, ...]:
        if self.depths is None:
            return ()
        depths = read_whole_numbers("depths", self.depths)
        if len(depths) < 2:
            raise UserError(f"--depths {self.depths} is not allowed: a ladder has at least two depths")
        return depths


Budget = Annotated[str | None, tyro.conf.arg(metavar="BUDGET", help_behavior_hint="")]
STEPS_OF_AN_EPOCH, LARGEST_BATCH, SMALLEST_BATCH = 30, 128, 16
OF_PUBLISHED = ("weights", "pretrained", "sizes")
"""Options that say more of published networks."""
WITHOUT_PUBLISHED = ("families", "depths", "widths", "memory_budget", "storage", "study", "batch_size", "lr", "size")
"""Options that say nothing of them."""


@dataclass(frozen=True)
class Budgets:
    """What a network may cost; None where there is no limit."""

    train_seconds: float
    """Time of the whole search on this machine, measuring and the final training included."""
    latency_seconds: float | None = None
    """Median of one forward pass of one image."""
    parameters: float | None = None
    """Trainable numbers."""
    memory_bytes: float | None = None
    """Peak memory of training, as ``howdeep cost`` measures it."""


@dataclass(frozen=True, kw_only=True)
class FitOptions(DeploymentOptions):
    """What is searched for, where and how."""

    data: Data
    train_budget: Annotated[str, tyro.conf.arg(metavar="TIME")]
    """Time of everything on this machine, such as 30m: measuring, search, final training."""
    latency_budget: Budget = None
    """Longest forward pass of one image, such as 2ms (median on this device, one thread unless --threads says more)."""
    memory_budget: Budget = None
    """Peak memory of training, such as 2GB."""
    parameters_budget: Budget = None
    """Most trainable numbers, such as 1M."""
    families: Annotated[str, tyro.conf.arg(metavar="NAME[,NAME…]")] = "resnet"
    """plain, resnet, preresnet, wideresnet, densenet, densenet_bc."""
    depths: Annotated[str | None, tyro.conf.arg(metavar="INT[,INT…]", help_behavior_hint="")] = None
    """Depths to try; without it the usual ones of each family."""
    widths: Annotated[
        str | None, tyro.conf.arg(metavar="INT[,INT…]", help_behavior_hint="(default: 1,2,4,8; 1 for large images)")
    ] = None
    """Widths to try, as factors on the literature's channels; of images above 64 pixels a side 1 only."""
    from_networks: Annotated[str | None, tyro.conf.arg(name="from", metavar="NAME[,NAME…]", help_behavior_hint="")] = (
        None
    )
    """Begin with published networks, timm:NAME, torchvision:NAME, hf-model:owner/name or names of the catalogue: which
    of them, at which size of the images, how many of its first units?"""
    weights: Annotated[str | None, tyro.conf.arg(metavar="FOLDER|FILE", help_behavior_hint="")] = None
    """Weights of the networks of --from: a file, or a folder of files that are called as the networks are."""
    pretrained: bool = False
    """The published weights of the networks of --from, which their libraries download."""
    sizes: Annotated[str | None, tyro.conf.arg(metavar="INT[,INT…]", help_behavior_hint="")] = None
    """Sides of the images in pixels to try with --from; without it those that the networks were published for."""
    out: Path = Path("howdeep-fit")
    """Folder for the runs and the answer."""
    storage: Annotated[str | None, tyro.conf.arg(metavar="URL", help_behavior_hint="(default: SQLite in --out)")] = None
    """optuna storage that several processes or machines share, each with an --out of its own."""
    study: str = "howdeep"
    """Name of the study in the storage."""
    batch_size: OptionalInt = None
    """Images per mini-batch; without it 128, or less for few images."""
    lr: OptionalFloat = None
    """Highest learning rate; without it the recipe's, and in proportion more for mini-batches above 128."""
    size: OptionalInt = None
    """Side of the images in pixels."""
    resize: Resize = "crop"
    flip: Flip = "auto"
    skip_broken: SkipBroken = False
    limit: TrainingLimit = None
    seed: int = 0
    """Seed of weights, order and augmentation."""
    device: Device = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of training; auto times a few steps and takes the fastest correct one."""
    threads: TrainingThreads = "auto"
    workers: Workers = 2

    def __post_init__(self) -> None:
        convert(self, str, "data")
        convert(self, Path, "out")
        check_threads(self.threads)
        super().__post_init__()
        if self.from_networks is None:
            refuse_without_use(self, OF_PUBLISHED, "without --from: networks are trained from scratch")
        else:
            hint = "; --sizes is meant" if self.size is not None else ""
            refuse_without_use(self, WITHOUT_PUBLISHED, f"with --from: published networks are what they are{hint}")
        _ = self.budgets, self.family_names, self.given_depths, self.given_widths, self.published, self.given_sizes

    @property
    def budgets(self) -> Budgets:
        """The budgets as numbers."""

        def number(name: str, parse: Any) -> float | None:
            text = getattr(self, name.replace("-", "_"))
            return None if text is None else parse(name, text)

        return Budgets(
            train_seconds=read_seconds("train-budget", self.train_budget),
            latency_seconds=number("latency-budget", read_seconds),
            parameters=number("parameters-budget", read_count),
            memory_bytes=number("memory-budget", read_bytes),
        )

    @property
    def family_names(self) -> tuple[str, ...]:
        """The families, each once."""
        return read_names("families", self.families)

    @property
    def given_depths(self) -> tuple[int, ...] | None:
        """The depths that were given, shallow first."""
        return None if self.depths is None else read_whole_numbers("depths", self.depths)

    @property
    def given_widths(self) -> tuple[int, ...] | None:
        """The widths that were given, narrow first."""
        return None if self.widths is None else read_whole_numbers("widths", self.widths)

    @property
    def published(self) -> tuple[str, ...]:
        """The published networks, each once; none where networks are trained from scratch."""
        return () if self.from_networks is None else read_names("from", self.from_networks)

    @property
    def given_sizes(self) -> tuple[int | None, ...]:
        """The sizes of images that were given, small first; None stands for the published one."""
        return (None,) if self.sizes is None else read_whole_numbers("sizes", self.sizes)

    def asked(self) -> dict[str, Any]:
        """Return the options that the answer depends on, beside the images, as JSON holds them."""
        parsed = {
            "budgets": asdict(self.budgets),
            "families": list(self.family_names),
            "depths": self.given_depths and list(self.given_depths),
            "widths": self.given_widths and list(self.given_widths),
            "from": list(self.published),
            "sizes": list(self.given_sizes),
            "threads": self.where.threads,
        }
        other = ("data", "from_networks", "out", "storage", "study", "device", "threads", "workers")
        names = [field.name for field in fields(FitOptions) if not field.name.endswith("_budget")]
        return {name: getattr(self, name) for name in names if name not in other} | parsed

    def plane(self, height: int, width: int) -> list[Member]:
        """Return the networks to try: family by family, narrow first, shallow first.

        Args:
            height: Of the images.
            width: Of the images.

        Raises:
            UserError: A family is unknown, or has no such depth or width for images of this size.
        """
        large = min(height, width) > LARGE_SIDE
        widths = self.given_widths or ((1,) if large else WIDTHS)
        return [
            member
            for family in self.family_names
            for member in plane(family, self.given_depths or usual_depths(family, large=large), widths, large=large)
        ]

    def training(self, images: int, recipe: str = "extendable") -> TrainConfig:
        """Return how networks are trained on this many images; the network that it names stands for any.

        Mini-batches are halved where fewer than 30 of them make an epoch, as few images need as many updates. They keep
        the learning rate: in proportion to the batch it is too low for short training. On the digits (32 images, 6
        epochs of ``fast``, two seeds, 179 validation images) cifar_resnet8 had 37 and 47 % wrong at 0.025, 2 to 3 % at
        0.1 and 0.2, 1 % at 0.4; after 40 epochs, at most 1.1 % at all of them.
        """
        batch = LARGEST_BATCH
        while batch > SMALLEST_BATCH and images < STEPS_OF_AN_EPOCH * batch:
            batch //= 2
        batch = batch if self.batch_size is None else self.batch_size
        scale = max(1.0, batch / LARGEST_BATCH)
        rate = recipe_of(recipe).schedule.peak * scale if self.lr is None else self.lr
        return TrainConfig(
            network="cifar_resnet8",
            recipe=recipe,
            batch_size=batch,
            lr=rate,
            **{name: getattr(self, name) for name in (*SHARED_WITH_TRAINING, "resize", "seed", "workers")},
        )


def require_asked(before: dict, options: FitOptions, where: str) -> None:
    """Refuse options with which another answer was begun.

    Raises:
        UserError: They are others; the first difference is named.
    """
    for name, now in json.loads(json.dumps(options.asked())).items():
        if before[name] != now:
            told = f"{name.replace('_', '-')} was {before[name]} and is now {now}"
            raise UserError(f"{where} belongs to a fit with other options: {told}; use those, or name another --out")
