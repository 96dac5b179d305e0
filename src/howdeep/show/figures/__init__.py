"""Record → chart. A figure knows nothing about networks; its title states the finding."""

from howdeep.show.figures.curves import curves as curves
from howdeep.show.figures.curves import overlaid as overlaid
from howdeep.show.figures.depth import by_depth as by_depth
from howdeep.show.figures.depth import costs as costs
from howdeep.show.figures.depth import degradation as degradation
from howdeep.show.figures.depth import ladder as ladder
from howdeep.show.figures.drawing import check_ending as check_ending
from howdeep.show.figures.drawing import dark_rules as dark_rules
from howdeep.show.figures.drawing import save as save
from howdeep.show.figures.drawing import svg as svg
from howdeep.show.figures.evaluation import confusion as confusion
from howdeep.show.figures.evaluation import confusion_matrix as confusion_matrix
from howdeep.show.figures.evaluation import evaluation as evaluation
from howdeep.show.figures.evaluation import reliability as reliability
from howdeep.show.figures.frontier import frontier as frontier
from howdeep.show.figures.lesion import lesion as lesion
from howdeep.show.figures.lesion import strip as strip
from howdeep.show.figures.paths import can_unravel as can_unravel
from howdeep.show.figures.paths import flow as flow
from howdeep.show.figures.paths import path_lengths as path_lengths
from howdeep.show.figures.paths import paths as paths
from howdeep.show.figures.paths import study_of_paths as study_of_paths
from howdeep.show.figures.paths import unravelled as unravelled
from howdeep.show.figures.plane import fit as fit
from howdeep.show.figures.probe import probe as probe
from howdeep.show.figures.transfer import transfer as transfer
