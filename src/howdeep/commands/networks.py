"""What there is to begin with: networks, recipes, foreign weights, data."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import tyro.conf

from howdeep.commands.output import Output, remark
from howdeep.runs.options import ImportOptions
from howdeep.util.options import (
    Data,
    Flat,
    OptionalFile,
    OptionalInt,
    Resize,
    refuse_without_use,
)


@dataclass(frozen=True, kw_only=True)
class Networks:
    """Print the catalogue, or one network's units with shapes, parameters and multiply-adds."""

    name: Annotated[tyro.conf.Positional[str | None], tyro.conf.arg(metavar="NETWORK", help_behavior_hint="")] = None
    """Such as cifar_resnet56 or cifar_resnet14_w4 (any valid depth, any width), torchvision:resnet50
    or timm:convnext_tiny."""
    size: OptionalInt = None
    """Side of the images in pixels; without it 32, or 224 for the ImageNet names."""
    classes: OptionalInt = None
    """Number of classes."""
    channels: int = 3
    """Channels of the images."""
    output: Flat[Output] = field(default_factory=Output)

    def run(self) -> int:
        """Print the table."""
        from howdeep.convert.libraries import is_library_name
        from howdeep.networks import spec_of
        from howdeep.networks.counting import catalogue, describe
        from howdeep.runs.foreign import describe_library
        from howdeep.show.catalogue_tables import networks_table, units_table

        self.output.check()
        if self.name is None:
            refuse_without_use(self, ("size", "classes", "channels"), "without NETWORK: it belongs to one")
            summaries = catalogue()
            self.output.finish([asdict(summary) for summary in summaries], networks_table(summaries))
            return 0
        if is_library_name(self.name):
            refuse_without_use(self, ("channels",), f"for {self.name}: it reads colour images")
            description = describe_library(self.name, size=self.size, classes=self.classes)
        else:
            spec = spec_of(self.name, classes=self.classes, channels=self.channels)
            description = describe(spec, size=self.size)
        self.output.finish(asdict(description), units_table(description))
        return 0


@dataclass(frozen=True, kw_only=True)
class Recipes:
    """Print how networks can be trained: all recipes, or every value of one."""

    name: Annotated[tyro.conf.Positional[str | None], tyro.conf.arg(metavar="NAME", help_behavior_hint="")] = None
    """Such as finetune."""
    output: Flat[Output] = field(default_factory=Output)

    def run(self) -> int:
        """Print the table."""
        from howdeep.show.catalogue_tables import recipe_table, recipes_table
        from howdeep.training.recipes import RECIPES, recipe_of

        self.output.check()
        if self.name is None:
            self.output.finish([one.to_json() for one in RECIPES.values()], recipes_table(RECIPES.values()))
        else:
            self.output.finish(recipe_of(self.name).to_json(), recipe_table(recipe_of(self.name)))
        return 0


@dataclass(frozen=True, kw_only=True)
class Import(ImportOptions):
    """Read foreign weights into a run folder, and list what was kept, renamed and left."""

    output: Flat[Output] = field(default_factory=Output)

    def run(self) -> int:
        """Read, write and list."""
        from howdeep.runs.foreign import import_weights

        self.output.check()
        notes: list[str] = []
        imported = import_weights(self, report=notes.append)
        for note in notes:
            remark(note)
        lists = {name: getattr(imported, name) for name in ("kept", "renamed", "left", "missing")}
        counts = ", ".join(f"{len(names)} {kind}" for kind, names in lists.items())
        lines = [f"  {theirs} → {ours}" for theirs, ours in imported.renamed]
        lines += [f"  left: {name} ({reason})" for name, reason in imported.left]
        self.output.finish({"out": str(self.out), **lists, "notes": notes}, *lines, f"{self.out}: {counts}")
        return 0


@dataclass(frozen=True, kw_only=True)
class Check:
    """Say what is in the data: counts, sizes, broken files, duplicates, a contact sheet."""

    data: tyro.conf.Positional[Data]
    size: OptionalInt = None
    """Side of the images in pixels that a network would see."""
    resize: Resize = "crop"
    seed: int = 0
    """Seed of the splits and of the samples on the sheet."""
    sheet: OptionalFile = None
    """Write a PNG of what a network would see."""
    output: Flat[Output] = field(default_factory=Output)

    def run(self) -> int:
        """Look at every image; the status is 1 where some are broken."""
        from howdeep.data import open_data
        from howdeep.data.check import check
        from howdeep.data.sheet import contact_sheet
        from howdeep.show.catalogue_tables import check_table

        self.output.check(self.sheet)
        report = check(self.data, size=self.size, resize=self.resize, seed=self.seed)

        def draw(sheet: Path) -> None:
            dataset = open_data(self.data, size=self.size, resize=self.resize, seed=self.seed, skip_broken=True)
            contact_sheet(dataset, sheet, seed=self.seed)

        caption = "what a network sees"
        self.output.finish(asdict(report), check_table(report), figure=self.sheet, draw=draw, caption=caption)
        return 1 if report.problems else 0
