"""Record → chart. A figure knows nothing about networks; its title states the finding."""

from howdeep.figures.base import check_ending as check_ending
from howdeep.figures.base import save as save
from howdeep.figures.costs import costs as costs
from howdeep.figures.curves import curves as curves
from howdeep.figures.degradation import by_depth as by_depth
from howdeep.figures.degradation import degradation as degradation
from howdeep.figures.dissection import flow as flow
from howdeep.figures.dissection import paths as paths
from howdeep.figures.dissection import study_of_paths as study_of_paths
from howdeep.figures.evaluation import confusion as confusion
from howdeep.figures.evaluation import confusion_matrix as confusion_matrix
from howdeep.figures.evaluation import evaluation as evaluation
from howdeep.figures.evaluation import reliability as reliability
from howdeep.figures.fitting import fit as fit
from howdeep.figures.frontier import frontier as frontier
from howdeep.figures.inline import svg as svg
from howdeep.figures.lesion import lesion as lesion
from howdeep.figures.strip import strip as strip
from howdeep.figures.unravelled import can_unravel as can_unravel
from howdeep.figures.unravelled import path_lengths as path_lengths
from howdeep.figures.unravelled import unravelled as unravelled
