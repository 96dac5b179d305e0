"""What depth costs: measured, predicted, and on paper for many devices."""

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Annotated

import tyro.conf

from howdeep.commands.options import check_files
from howdeep.commands.output import Output, remark
from howdeep.costs.options import CostOptions
from howdeep.util.errors import UserError
from howdeep.util.options import Flat, OptionalFile, refuse_without_use
from howdeep.util.units import whole_numbers

if TYPE_CHECKING:
    from howdeep.costs.cost import Ladder
    from howdeep.costs.scaling import Cluster, Paper, TrainingJob

Networks = Annotated[
    tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="NETWORK [NETWORK ...]", help_behavior_hint="")
]
Depths = Annotated[str | None, tyro.conf.arg(metavar="INT,INT,…", help_behavior_hint="")]
Text = Annotated[str | None, tyro.conf.arg(metavar="RATE", help_behavior_hint="")]
Nodes = Annotated[str | None, tyro.conf.arg(metavar="NODESxDEVICES", help_behavior_hint="")]


@dataclass(frozen=True, kw_only=True)
class _Networks:
    """Which networks, and which of their depths."""

    networks: Networks
    """Such as cifar_resnet56; with --depths also a family, such as cifar_resnet."""
    depths: Depths = None
    """Layers, such as 8,20,56,110,1202: a few are measured, the others predicted."""
    measured: Depths = None
    """Depths that the prediction is fitted on; without it the shallowest three, or
    small networks of the same kind."""


@dataclass(frozen=True, kw_only=True)
class Cost(CostOptions, _Networks):
    """Measure what networks cost here; predict other depths, and many devices."""

    scale: Nodes = None
    """On paper: training on so many nodes, such as 64x8."""
    rate: Text = None
    """scale: what one device sustains, such as 60TFLOP/s; without it, as measured here."""
    inside: str = "300GB/s"
    """scale: link between the devices of a node."""
    between: str = "25GB/s"
    """scale: link between nodes."""
    images: int = 1_281_167
    """scale: images of the training set."""
    epochs: float = 90.0
    """scale: passes over it."""
    figure: OptionalFile = None
    """Draw a chart into this file: .svg, .png or .html."""
    output: Flat[Output] = field(default_factory=Output)

    def run(self) -> int:
        """Measure, predict and print."""
        self.check()
        if self.rate is not None:
            return self.on_paper()
        from howdeep.costs.cost import cost
        from howdeep.util.files import file_locked

        depths, fitted = _numbers("depths", self.depths), _numbers("measured", self.measured)
        place = self.output.place
        with file_locked(place):
            ladders = [cost(name, depths, fitted, self, place=place, report=remark).ladders for name in self.networks]
            self.report([ladder for several in ladders for ladder in several])
        return 0

    def check(self) -> None:
        """Refuse before anything is measured what could not be done or written afterwards."""
        check_files(self.output, self.figure)
        if not self.networks:
            raise UserError("no NETWORK was given; such as cifar_resnet56, or cifar_resnet with --depths 8,20,56,110")
        if self.measured is not None and self.depths is None:
            raise UserError(f"--measured {self.measured} is not allowed without --depths")
        if self.rate is not None and self.scale is None:
            raise UserError(f"--rate {self.rate} is not allowed without --scale: it describes one of many devices")
        if self.scale is None:
            refuse_without_use(self, ("inside", "between", "images", "epochs"), "without --scale NODESxDEVICES")
        if self.rate is not None:
            unused = ("measured", "seconds", "threads", "precision", "device", "survival", "figure")
            refuse_without_use(self, unused, "with --rate: then nothing is measured")
        if self.scale is not None:
            self.cluster_and_job(parameters=1)
        if self.figure is not None and self.depths is None:
            raise UserError(f"--figure {self.figure} is not allowed without --depths: it draws cost against depth")

    def report(self, ladders: "list[Ladder]") -> None:
        """Scale on paper if that was asked for, write, draw and print."""
        from howdeep.costs.cost import forget_kept
        from howdeep.runs.folder import provenance
        from howdeep.runtime.device import pick
        from howdeep.show import figures
        from howdeep.util.records import tagged

        papers = [] if self.scale is None else [self.scaled_ladder(ladder) for ladder in ladders]
        records = {"ladders": [asdict(ladder) for ladder in ladders], "scaled": [paper.to_json() for paper in papers]}
        self.output.finish(
            tagged("cost", {**records, **provenance(pick(self.device))}),
            *(one.table() for one in (*ladders, *papers)),
            figure=self.figure,
            draw=lambda place: figures.save(figures.costs(ladders), place),
            written=lambda: forget_kept(self.output.place),
        )

    def on_paper(self) -> int:
        """Scale from a device description; nothing is measured."""
        from howdeep.costs.cost import plans_of
        from howdeep.costs.scaling import flops_per_second
        from howdeep.networks.counting import describe
        from howdeep.util.records import tagged

        rate = flops_per_second("rate", str(self.rate))
        depths = _numbers("depths", self.depths)
        plans = [plan for name in self.networks for plan in plans_of(name, depths, None, channels=self.channels)]
        networks = [describe(spec, size=self.size) for plan in plans for spec in plan.asked]
        papers = [self.scaled(one.name, one.parameters, one.macs, rate=rate) for one in networks]
        record = {"ladders": [], "scaled": [paper.to_json() for paper in papers], "rate": rate}
        self.output.finish(tagged("cost", record), *(paper.table() for paper in papers))
        return 0

    def scaled_ladder(self, ladder: "Ladder") -> "Paper":
        """Scale the deepest network of a ladder from what it costs here."""
        deepest = ladder.depths[-1]
        costs = deepest.measured or deepest.predicted
        if costs is None or costs.training_ms is None:
            raise UserError(f"--scale {self.scale} is not allowed for {deepest.network}: its training was not measured")
        seconds, counts = costs.training_ms / 1000, deepest.counts
        return self.scaled(deepest.network, counts.parameters, counts.macs, seconds=seconds)

    def cluster_and_job(self, parameters: int) -> "tuple[Cluster, TrainingJob]":
        """Return what is scaled to, and what is trained there."""
        from howdeep.costs.scaling import TrainingJob, cluster_of

        job = TrainingJob(parameters, self.batch_size, self.images, self.epochs)
        return cluster_of(str(self.scale), self.inside, self.between), job

    def scaled(
        self, network: str, parameters: int, macs: int, *, rate: float | None = None, seconds: float | None = None
    ) -> "Paper":
        """Scale one network."""
        from howdeep.costs.scaling import on_paper

        cluster, job = self.cluster_and_job(parameters)
        return on_paper(network, job, cluster, macs, flops_per_second=rate, image_seconds=seconds)


def _numbers(name: str, text: str | None) -> tuple[int, ...] | None:
    return None if text is None else whole_numbers(name, text)
