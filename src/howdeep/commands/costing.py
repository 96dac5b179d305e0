"""What depth costs: measured, predicted, and on paper for many devices."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import tyro.conf

from howdeep.commands.output import ResultOptions, remark
from howdeep.costs.options import CostOptions, ScalingOptions
from howdeep.util.errors import UserError
from howdeep.util.options import read_whole_numbers, refuse_without_use

if TYPE_CHECKING:
    from howdeep.costs.cost import Ladder
    from howdeep.costs.scaling import Paper

Networks = Annotated[
    tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="NETWORK [NETWORK ...]", help_behavior_hint="")
]
Depths = Annotated[str | None, tyro.conf.arg(metavar="INT,INT,…", help_behavior_hint="")]


@dataclass(frozen=True, kw_only=True)
class _Networks:
    """Which networks, and which of their depths."""

    networks: Networks
    """Such as cifar_resnet56; with --depths also a family, such as cifar_resnet."""
    depths: Depths = None
    """Layers, such as 8,20,56,110,1202: a few are measured, the others predicted."""
    widths: Depths = None
    """Factors on the literature's channels, such as 1,2,4: every width is measured, and predicted, by itself."""
    measured: Depths = None
    """Depths that the prediction is fitted on; without it the shallowest three, or
    small networks of the same kind."""


@dataclass(frozen=True, kw_only=True)
class Cost(ResultOptions, ScalingOptions, CostOptions, _Networks):
    """Measure what depth costs here; predict it for other depths.

    Example: howdeep cost cifar_resnet --depths 8,20,56,110,1202
    """

    def __post_init__(self) -> None:
        CostOptions.__post_init__(self)
        ScalingOptions.__post_init__(self)
        if self.measured is not None and self.depths is None:
            raise UserError(f"--measured {self.measured} is not allowed without --depths")
        if self.rate is not None:
            unused = ("measured", "seconds", "runtime", "threads", "latency_batch", "precision", "device", "survival")
            unused = (*unused, "figure")
            refuse_without_use(self, unused, "with --rate: then nothing is measured")
        if self.figure is not None and self.depths is None:
            raise UserError(f"--figure {self.figure} is not allowed without --depths: it draws cost against depth")

    def run(self) -> int:
        """Measure, predict and print."""
        from howdeep.costs import cost as costs
        from howdeep.runs.folder import provenance
        from howdeep.runtime.device import pick
        from howdeep.util.files import file_locked
        from howdeep.util.records import tagged

        self.check_files()
        if not self.networks:
            raise UserError("no NETWORK was given; such as cifar_resnet56, or cifar_resnet with --depths 8,20,56,110")
        if self.rate is not None:
            return self.on_paper()
        depths, fitted = _numbers("depths", self.depths), _numbers("measured", self.measured)
        place = self.output.place
        with file_locked(place):
            found = [costs.cost(name, depths, fitted, self, place=place, report=remark) for name in self.named()]
            ladders = tuple(ladder for one in found for ladder in one.ladders)
            papers = () if self.scale is None else tuple(map(self.scaled, ladders))
            record = costs.Cost(ladders=ladders, scaled=papers)
            data = tagged("cost", {**record.to_json(), **provenance(pick(self.device))})
            self.finish(data, record, written=lambda: costs.forget_kept(place))
        return 0

    def named(self) -> list[str]:
        """Return the networks, or the families, in every width."""
        from howdeep.networks.catalogue import at_width

        if (widths := _numbers("widths", self.widths)) is None:
            return list(self.networks)
        return [at_width(name, width) for name in self.networks for width in widths]

    def scaled(self, ladder: "Ladder") -> "Paper":
        """Scale the deepest network of a ladder from what it costs here."""
        from howdeep.costs.scaling import on_paper

        deepest = ladder.depths[-1]
        costs = deepest.measured or deepest.predicted
        if costs is None or costs.training_ms is None:
            raise UserError(f"--scale {self.scale} is not allowed for {deepest.network}: its training was not measured")
        job, macs = self.job(deepest.counts.parameters, self.batch_size), deepest.counts.macs
        return on_paper(deepest.network, job, self.cluster(), macs, image_seconds=costs.training_ms / 1000)

    def on_paper(self) -> int:
        """Scale from a device description; nothing is measured."""
        from howdeep.costs import cost as costs
        from howdeep.costs.predicting import plans_of
        from howdeep.costs.scaling import flops_per_second, on_paper
        from howdeep.networks.counting import describe
        from howdeep.util.records import tagged

        rate, depths = flops_per_second("rate", str(self.rate)), _numbers("depths", self.depths)
        plans = [plan for name in self.named() for plan in plans_of(name, depths, None, channels=self.channels)]
        papers = []
        for one in (describe(spec, size=self.size) for plan in plans for spec in plan.asked):
            job = self.job(one.parameters, self.batch_size)
            papers.append(on_paper(one.name, job, self.cluster(), one.macs, flops_per_second=rate))
        record = costs.Cost(scaled=tuple(papers))
        self.finish(tagged("cost", {**record.to_json(), "rate": rate}), record)
        return 0


def _numbers(name: str, text: str | None) -> tuple[int, ...] | None:
    return None if text is None else read_whole_numbers(name, text)
