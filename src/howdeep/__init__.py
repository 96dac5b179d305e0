"""How deep should my neural network be? Train very deep networks, dissect them, right-size them.

The public names are imported on first use, so that ``import howdeep`` and ``howdeep --help`` do not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from howdeep.chain import Add as Add
    from howdeep.chain import AddReLU as AddReLU
    from howdeep.chain import Chain as Chain
    from howdeep.chain import Concatenate as Concatenate
    from howdeep.chain import Gates as Gates
    from howdeep.chain import Merge as Merge
    from howdeep.chain import Replace as Replace
    from howdeep.chain import Unit as Unit
    from howdeep.costs.cost import CostOptions as CostOptions
    from howdeep.costs.cost import cost as cost
    from howdeep.cutting.cut import cut as cut
    from howdeep.cutting.records import Cut as Cut
    from howdeep.cutting.records import CutBudget as CutBudget
    from howdeep.data import Batch as Batch
    from howdeep.data import open_data as open_data
    from howdeep.dissect.lesion import Lesion as Lesion
    from howdeep.dissect.lesion import lesion as lesion
    from howdeep.dissect.paths import Paths as Paths
    from howdeep.dissect.paths import paths as paths
    from howdeep.errors import UserError as UserError
    from howdeep.evaluation import evaluate as evaluate
    from howdeep.fitting.candidates import Budgets as Budgets
    from howdeep.fitting.fit import fit as fit
    from howdeep.fitting.records import Fit as Fit
    from howdeep.fitting.records import FitOptions as FitOptions
    from howdeep.fold import fold_norms as fold_norms
    from howdeep.ladders.config import LadderConfig as LadderConfig
    from howdeep.ladders.degradation import Degradation as Degradation
    from howdeep.ladders.degradation import degradation as degradation
    from howdeep.networks import build as build
    from howdeep.networks import spec_of as spec_of
    from howdeep.runs import open_run as open_run
    from howdeep.signals import Flow as Flow
    from howdeep.signals import flow as flow
    from howdeep.surgery import without as without
    from howdeep.survival import Survival as Survival
    from howdeep.tracing import unravel as unravel
    from howdeep.training.config import TrainConfig as TrainConfig
    from howdeep.training.loop import train as train

_HOMES = {
    "Add": "chain",
    "AddReLU": "chain",
    "Chain": "chain",
    "Concatenate": "chain",
    "Gates": "chain",
    "Merge": "chain",
    "Replace": "chain",
    "Unit": "chain",
    "Batch": "data",
    "open_data": "data",
    "CostOptions": "costs.cost",
    "cost": "costs.cost",
    "Degradation": "ladders.degradation",
    "degradation": "ladders.degradation",
    "LadderConfig": "ladders.config",
    "Cut": "cutting.records",
    "CutBudget": "cutting.records",
    "cut": "cutting.cut",
    "Budgets": "fitting.candidates",
    "Fit": "fitting.records",
    "FitOptions": "fitting.records",
    "fit": "fitting.fit",
    "Lesion": "dissect.lesion",
    "lesion": "dissect.lesion",
    "Paths": "dissect.paths",
    "paths": "dissect.paths",
    "UserError": "errors",
    "evaluate": "evaluation",
    "Flow": "signals",
    "flow": "signals",
    "fold_norms": "fold",
    "build": "networks",
    "spec_of": "networks",
    "open_run": "runs",
    "without": "surgery",
    "Survival": "survival",
    "TrainConfig": "training.config",
    "train": "training.loop",
    "unravel": "tracing",
}

__all__ = sorted(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'howdeep' has no attribute {name!r}")
    return getattr(import_module(f"howdeep.{_HOMES[name]}"), name)
