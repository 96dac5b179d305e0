"""Record → chart. A figure knows nothing about networks; its title states the finding."""

from howdeep.figures.base import check_ending as check_ending
from howdeep.figures.base import save as save
from howdeep.figures.costs import costs as costs
from howdeep.figures.degradation import by_depth as by_depth
from howdeep.figures.degradation import degradation as degradation
from howdeep.figures.dissection import flow as flow
from howdeep.figures.dissection import lesion as lesion
from howdeep.figures.dissection import paths as paths
from howdeep.figures.fitting import fit as fit
from howdeep.figures.frontier import frontier as frontier
