"""Data whose classes are not those of a network: refused, unless the network is to have a classifier of its own."""

from dataclasses import replace

import pytest

from howdeep.runs.options import TargetOptions
from howdeep.runs.target import fresh_target, open_data_for
from howdeep.util.errors import UserError


def test_other_classes_are_refused_unless_that_is_said() -> None:
    target = fresh_target(TargetOptions(target="cifar_resnet8"), "digits", seed=0, skip_broken=False)
    animals = replace(target, outputs=2, classes=("cat", "dog"))
    with pytest.raises(UserError, match="digits has other classes than cifar_resnet8"):
        open_data_for(animals, "digits", skip_broken=False)
    assert len(open_data_for(animals, "digits", skip_broken=False, same_classes=False).classes) == 10
