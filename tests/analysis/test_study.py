"""How a study computes: the threads that were asked for or chosen before, and true float32."""

import os
from pathlib import Path

import pytest
import torch

from howdeep.analysis.options import StudyOptions
from howdeep.analysis.study import Study, open_study
from howdeep.runs.options import TargetOptions
from howdeep.runs.target import Target, fresh_target
from howdeep.runtime.timing import threads_of
from howdeep.util.errors import UserError

ASKED = {"analysis": "none"}


def _no_threads(line: str) -> None:
    assert not line.startswith("threads")


@pytest.fixture(scope="module")
def target() -> Target:
    return fresh_target(TargetOptions(target="cifar_resnet8"), "digits", seed=0, skip_broken=False)


def options(**more) -> StudyOptions:
    return StudyOptions(data="digits", limit=4, device="cpu", **more)


def one_block(study: Study) -> list[dict]:
    return study.journal.blocks("blocks", 1, lambda block: {"threads": torch.get_num_threads()})


def test_a_study_computes_in_the_threads_that_are_asked_for_and_says_so(target: Target) -> None:
    with threads_of(2), open_study(target, options(threads=1), asked=ASKED, report=_no_threads) as study:
        assert one_block(study) == [{"threads": 1}]
        assert study.origin["device"]["threads"] == 1
        assert study.journal.steps["threads"] == 1


def test_a_study_that_goes_on_computes_in_the_threads_that_it_began_with(target: Target, tmp_path: Path) -> None:
    """Whatever is faster now: the blocks of one record have the bits of one number of threads."""
    place, said = tmp_path / "record.json", []
    with threads_of(1), open_study(target, options(), asked=ASKED, place=place, report=_no_threads) as study:
        one_block(study)
    with threads_of(2):
        with open_study(target, options(), asked=ASKED, place=place, report=said.append) as study:
            assert torch.get_num_threads() == 1
            assert one_block(study) == [{"threads": 1}]
        assert torch.get_num_threads() == 2
    assert said[-1] == "threads: 1, the fastest here; bits repeat per number of threads"


def test_convolutions_of_a_study_are_true_float32(target: Target) -> None:
    convolutions = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    with open_study(target, options(), asked=ASKED, report=_no_threads):
        assert convolutions.fp32_precision == "ieee"
    assert convolutions.fp32_precision == "tf32"


def test_threads_that_cannot_be_had_are_refused() -> None:
    with pytest.raises(UserError, match=r"^threads 0 is not allowed: it must be auto, or 1 to \d+ here$"):
        options(threads=0)


def test_processors_are_those_that_the_system_lends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})
    with pytest.raises(UserError, match=r"^threads 2 is not allowed: it must be auto, or 1 to 1 here$"):
        options(threads=2)
