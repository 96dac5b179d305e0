"""Labelled images: where they come from, how they are cut into splits, and how they reach the device."""

from howdeep.data.augmentation import Augmentation as Augmentation
from howdeep.data.augmentation import augmentation_line as augmentation_line
from howdeep.data.augmentation import augmentation_of as augmentation_of
from howdeep.data.augmentation import augmentation_record as augmentation_record
from howdeep.data.batches import Batch as Batch
from howdeep.data.batches import evaluation_batches as evaluation_batches
from howdeep.data.batches import steps_per_epoch as steps_per_epoch
from howdeep.data.batches import training_batches as training_batches
from howdeep.data.dataset import Dataset as Dataset
from howdeep.data.dataset import Split as Split
from howdeep.data.dataset import held as held
from howdeep.data.normalization import NORMALIZATIONS as NORMALIZATIONS
from howdeep.data.normalization import Normalization as Normalization
from howdeep.data.sources import open_data as open_data
