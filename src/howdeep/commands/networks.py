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
from howdeep.util.records import tagged


@dataclass(frozen=True, kw_only=True)
class Networks:
    """List the catalogue, or the units of one network.

    Example: howdeep networks cifar_resnet56
    """

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
            record = tagged("networks", {"networks": [asdict(summary) for summary in summaries]})
            self.output.finish(record, networks_table(summaries))
            return 0
        if is_library_name(self.name):
            refuse_without_use(self, ("channels",), f"for {self.name}: it reads colour images")
            description = describe_library(self.name, size=self.size, classes=self.classes)
        else:
            spec = spec_of(self.name, classes=self.classes, channels=self.channels)
            description = describe(spec, size=self.size)
        self.output.finish(tagged("network", asdict(description)), units_table(description))
        return 0


@dataclass(frozen=True, kw_only=True)
class Recipes:
    """List how networks can be trained, or all values of a recipe.

    Example: howdeep recipes finetune
    """

    name: Annotated[tyro.conf.Positional[str | None], tyro.conf.arg(metavar="NAME", help_behavior_hint="")] = None
    """Such as finetune."""
    output: Flat[Output] = field(default_factory=Output)

    def run(self) -> int:
        """Print the table."""
        from howdeep.show.catalogue_tables import recipe_table, recipes_table
        from howdeep.training.recipes import RECIPES, recipe_of

        self.output.check()
        if self.name is None:
            record = tagged("recipes", {"recipes": [one.to_json() for one in RECIPES.values()]})
            self.output.finish(record, recipes_table(RECIPES.values()))
        else:
            recipe = recipe_of(self.name)
            self.output.finish(tagged("recipe", recipe.to_json()), recipe_table(recipe))
        return 0


@dataclass(frozen=True, kw_only=True)
class Import(ImportOptions):
    """Read foreign weights into a run folder; list what was kept.

    Example: howdeep import resnet56.th --network cifar_resnet56 --out run
    """

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
        record = tagged("import", {"out": str(self.out), **lists, "notes": notes})
        self.output.finish(record, *lines, f"{self.out}: {counts}")
        return 0


@dataclass(frozen=True, kw_only=True)
class Check:
    """Say what is in the data: counts, broken files, duplicates.

    Example: howdeep check photos --sheet sheet.png
    """

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
        record = tagged("check", asdict(report))
        self.output.finish(record, check_table(report), figure=self.sheet, draw=draw, caption=caption)
        return 1 if report.problems else 0
