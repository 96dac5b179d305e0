"""Ladders: a family of networks and its depths, as names of the catalogue."""

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro.conf

from howdeep.training.config import RecipeFloat, RecipeInt, RecipeRule, TrainConfig
from howdeep.util.errors import UserError, unknown
from howdeep.util.options import Threads, convert, read_names, read_seconds, read_whole_numbers

LARGE_SIDE = 64
"""Images of more pixels a side get the ImageNet networks, whose stem divides the side by four."""
DEEPEST = 110
"""Where nobody says which depths, a ladder for small images ends here: 1,202 layers take hours on two cores."""


SHARED_WITH_TRAINING = (
    *("data", "recipe", "epochs", "batch_size", "lr", "limit", "size", "flip", "skip_broken"),
    *("device", "precision", "threads"),
)
"""Options that a run has too."""


@dataclass(frozen=True)
class Family:
    """Networks that differ in depth only."""

    label: str
    """What people call it."""
    small: str
    """Name for small images; {} is the depth."""
    depths: tuple[int, ...]
    """Usual depths for small images, each about twice the one before."""
    large: str | None
    """Name for large images; None where the literature has none."""
    large_depths: tuple[int, ...]
    """Depths that the literature has for large images."""


SIX = (8, 14, 20, 32, 56, 110, 218, 434, 1202)
"""Depths 6n + 2."""
DEEP = (18, 34, 50, 101, 152, 200)
DENSE, LARGE_DENSE = (10, 16, 22, 40, 58, 100), (121, 169, 201, 264)
FAMILIES: dict[str, Family] = {
    "plain": Family("plain", "cifar_plain{}", SIX, "plain{}", (18, 34)),
    "resnet": Family("residual", "cifar_resnet{}", SIX, "resnet{}", DEEP),
    "preresnet": Family("pre-activation residual", "cifar_preresnet{}", SIX, "preresnet{}", DEEP),
    "wideresnet": Family("wide residual", "cifar_wideresnet{}_4", (10, 16, 22, 28, 40), None, ()),
    "densenet": Family("dense", "cifar_densenet{}_k12", DENSE, "densenet{}", LARGE_DENSE),
    "densenet_bc": Family("dense, bottlenecks", "cifar_densenet_bc{}_k12", DENSE, "densenet{}", LARGE_DENSE),
}
"""Wide networks have factor 4, dense ones growth rate 12; the dense networks for large images are DenseNet-BC."""


def network_name(family: str, depth: int, *, large: bool) -> str:
    """Return the name of a family's network of a depth, such as ``cifar_densenet_bc100_k12``.

    Args:
        family: One of :data:`FAMILIES`.
        depth: Layers with weights, as the literature counts them.
        large: Whether images have more than 64 pixels a side.

    Raises:
        UserError: There is no such family, not for such images, or not of this depth; the nearest are named.
    """
    from howdeep.networks import spec_of  # imports torch, which the options of a command do without

    members = _family(family, large=large)
    name = str(members.large if large else members.small).format(depth)
    spec_of(name)
    return name


def usual_depths(family: str, *, large: bool) -> tuple[int, ...]:
    """Return the depths of a family that a ladder has where nobody says which, shallow first.

    Raises:
        UserError: There is no such family, or not for such images.
    """
    members = _family(family, large=large)
    return members.large_depths if large else members.depths


def _family(name: str, *, large: bool) -> Family:
    if name not in FAMILIES:
        raise unknown("family", name, FAMILIES)
    family = FAMILIES[name]
    if large and family.large is None:
        raise UserError(f"family {name} is not allowed for images of more than {LARGE_SIDE} pixels a side")
    return family


@dataclass(frozen=True, kw_only=True)
class LadderConfig:
    """Options of a ladder; those left None are the recipe's."""

    data: Annotated[str, tyro.conf.arg(metavar="DATA")]
    """digits, an image folder, a Parquet file or folder, or hf:owner/name."""
    families: Annotated[str, tyro.conf.arg(metavar="NAME,NAME,…")] = "plain,resnet"
    """plain, resnet, preresnet, wideresnet, densenet or densenet_bc, with commas between."""
    depths: Annotated[
        str | None, tyro.conf.arg(metavar="INT,INT,…", help_behavior_hint="(default: the family's up to 110)")
    ] = None
    """Layers, the same for every family."""
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
    limit: Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")] = None
    """Only N training images, a stratified sample."""
    size: Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")] = None
    """Side of the images in pixels."""
    flip: Literal["auto", "yes", "no"] = "auto"
    """Mirror half of the training images; auto does unless all classes are single letters or digits."""
    skip_broken: bool = False
    """Leave broken images out instead of stopping."""
    seed: int = 0
    """The first seed."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of the activations; auto times a few steps and takes the fastest correct one."""

    threads: Threads = "auto"
    """Threads of the host; auto times a few steps and times again where the machine gets busy."""

    def __post_init__(self) -> None:
        convert(self, str, "data")
        if self.seeds < 1:
            raise UserError(f"--seeds {self.seeds} is not allowed: it must be at least 1")
        if self.epochs is not None and self.train_budget is not None:
            raise UserError("--epochs and --train-budget are not allowed together: equal epochs or equal time")
        for family in self.family_names:
            if family not in FAMILIES:
                raise unknown("family", family, FAMILIES)
        _ = self.budget_seconds, self._given_depths(), self.run_config("", "", self.seed)

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

    def depths_of(self, family: str, *, large: bool) -> tuple[int, ...]:
        """Return the depths of a family, shallow first."""
        usual = usual_depths(family, large=large)
        return self._given_depths() or tuple(depth for depth in usual if large or depth <= DEEPEST)

    def run_config(self, family: str, network: str, seed: int) -> TrainConfig:
        """Return the options of one run."""
        return TrainConfig(
            network=network,
            survival="constant" if family == "plain" else self.survival,
            seed=seed,
            keep="last",  # equally long trainings are compared
            **{name: getattr(self, name) for name in SHARED_WITH_TRAINING},
        )

    def _given_depths(self) -> tuple[int, ...]:
        if self.depths is None:
            return ()
        depths = read_whole_numbers("depths", self.depths)
        if len(depths) < 2:
            raise UserError(f"--depths {self.depths} is not allowed: a ladder has at least two depths")
        return depths
