"""What a ladder is asked to do: one flat, frozen record, which is also the command line's."""

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro.conf

from howdeep import budgets
from howdeep.errors import UserError, unknown
from howdeep.ladders.families import FAMILIES, usual_depths
from howdeep.threads import Threads
from howdeep.training.config import RecipeFloat, RecipeInt, RecipeRule, TrainConfig

DEEPEST = 110
"""Where nobody says which depths, a ladder for small images ends here: 1,202 layers take hours on two cores."""


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
    """Arithmetic of the maps; auto times a few steps and takes the fastest correct one."""

    threads: Threads = "auto"
    """Threads of the host; auto times a few steps and times again where the machine gets busy."""

    def __post_init__(self) -> None:
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
        return tuple(dict.fromkeys(name.strip() for name in self.families.split(",")))

    @property
    def budget_seconds(self) -> float | None:
        """Training time of all runs together; None where epochs are equal."""
        return None if self.train_budget is None else budgets.seconds("train-budget", self.train_budget)

    def depths_of(self, family: str, *, large: bool) -> tuple[int, ...]:
        """Return the depths of a family, shallow first."""
        usual = usual_depths(family, large=large)
        return self._given_depths() or tuple(depth for depth in usual if large or depth <= DEEPEST)

    def run_config(self, family: str, network: str, seed: int) -> TrainConfig:
        """Return the options of one run."""
        return TrainConfig(
            network=network, data=self.data, recipe=self.recipe, epochs=self.epochs, batch_size=self.batch_size,
            lr=self.lr, survival="constant" if family == "plain" else self.survival, limit=self.limit, size=self.size,
            flip=self.flip, skip_broken=self.skip_broken, seed=seed, device=self.device, precision=self.precision,
            threads=self.threads,
        )  # fmt: skip

    def _given_depths(self) -> tuple[int, ...]:
        if self.depths is None:
            return ()
        depths = budgets.whole_numbers("depths", self.depths)
        if len(depths) < 2:
            raise UserError(f"--depths {self.depths} is not allowed: a ladder has at least two depths")
        return depths
