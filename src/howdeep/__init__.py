"""How deep should my neural network be? Train very deep networks, dissect them, right-size them.

The public names are imported on first use, so that ``import howdeep`` and ``howdeep --help`` do not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from howdeep.analysis.depths import Probe as Probe
    from howdeep.analysis.evaluation import Evaluation as Evaluation
    from howdeep.analysis.evaluation import evaluate as evaluate
    from howdeep.analysis.lesion import Lesion as Lesion
    from howdeep.analysis.lesion import lesion as lesion
    from howdeep.analysis.options import LesionOptions as LesionOptions
    from howdeep.analysis.options import PathsOptions as PathsOptions
    from howdeep.analysis.paths import Paths as Paths
    from howdeep.analysis.paths import paths as paths
    from howdeep.analysis.probe import probe as probe
    from howdeep.analysis.signals import Flow as Flow
    from howdeep.analysis.signals import flow as flow
    from howdeep.chain import Add as Add
    from howdeep.chain import AddReLU as AddReLU
    from howdeep.chain import Chain as Chain
    from howdeep.chain import Concatenate as Concatenate
    from howdeep.chain import Gates as Gates
    from howdeep.chain import Merge as Merge
    from howdeep.chain import Replace as Replace
    from howdeep.chain import Unit as Unit
    from howdeep.convert import unravel as unravel
    from howdeep.costs.cost import Cost as Cost
    from howdeep.costs.cost import cost as cost
    from howdeep.costs.options import CostOptions as CostOptions
    from howdeep.cutting.cut import cut as cut
    from howdeep.cutting.options import CutBudget as CutBudget
    from howdeep.cutting.records import Cut as Cut
    from howdeep.data import Batch as Batch
    from howdeep.data import open_data as open_data
    from howdeep.data.loaders import Loader as Loader
    from howdeep.data.split_loaders import loaders as loaders
    from howdeep.exporting.export import Export as Export
    from howdeep.exporting.export import export as export
    from howdeep.networks import build as build
    from howdeep.networks import spec_of as spec_of
    from howdeep.runs.folder import Run as Run
    from howdeep.runs.folder import load as load
    from howdeep.runs.folder import open_run as open_run
    from howdeep.runtime.deployment import Deployment as Deployment
    from howdeep.search.degradation import Degradation as Degradation
    from howdeep.search.degradation import degradation as degradation
    from howdeep.search.fit import Fit as Fit
    from howdeep.search.fit import fit as fit
    from howdeep.search.options import Budgets as Budgets
    from howdeep.search.options import FitOptions as FitOptions
    from howdeep.search.options import LadderConfig as LadderConfig
    from howdeep.search.transfer import Transfer as Transfer
    from howdeep.survival import Survival as Survival
    from howdeep.training.chains import ChainOptions as ChainOptions
    from howdeep.training.chains import Trained as Trained
    from howdeep.training.chains import train as train
    from howdeep.training.config import TrainConfig as TrainConfig
    from howdeep.training.loop import TrainResult as TrainResult
    from howdeep.transform.folding import fold_norms as fold_norms
    from howdeep.transform.norms import recalibrate as recalibrate
    from howdeep.transform.removal import without as without
    from howdeep.util.errors import UserError as UserError

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
    "Loader": "data.loaders",
    "loaders": "data.split_loaders",
    "Export": "exporting.export",
    "export": "exporting.export",
    "CostOptions": "costs.options",
    "Cost": "costs.cost",
    "cost": "costs.cost",
    "Degradation": "search.degradation",
    "degradation": "search.degradation",
    "LadderConfig": "search.options",
    "Cut": "cutting.records",
    "CutBudget": "cutting.options",
    "cut": "cutting.cut",
    "Budgets": "search.options",
    "Fit": "search.fit",
    "FitOptions": "search.options",
    "fit": "search.fit",
    "Lesion": "analysis.lesion",
    "LesionOptions": "analysis.options",
    "lesion": "analysis.lesion",
    "Paths": "analysis.paths",
    "PathsOptions": "analysis.options",
    "paths": "analysis.paths",
    "Probe": "analysis.depths",
    "probe": "analysis.probe",
    "UserError": "util.errors",
    "Evaluation": "analysis.evaluation",
    "evaluate": "analysis.evaluation",
    "Flow": "analysis.signals",
    "flow": "analysis.signals",
    "fold_norms": "transform.folding",
    "recalibrate": "transform.norms",
    "build": "networks",
    "spec_of": "networks",
    "Deployment": "runtime.deployment",
    "Run": "runs.folder",
    "load": "runs.folder",
    "open_run": "runs.folder",
    "without": "transform.removal",
    "Transfer": "search.transfer",
    "Survival": "survival",
    "TrainConfig": "training.config",
    "TrainResult": "training.loop",
    "Trained": "training.chains",
    "ChainOptions": "training.chains",
    "train": "training.chains",
    "unravel": "convert",
}

__all__ = sorted(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'howdeep' has no attribute {name!r}")
    return getattr(import_module(f"howdeep.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
