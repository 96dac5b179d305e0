"""The trials that choose precision and memory format."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.oracles import small_network
from torch import Tensor, nn

from howdeep.chain import Chain
from howdeep.runtime import precision
from howdeep.runtime import timing as stopwatch
from howdeep.runtime.precision import FP32, Arithmetic, Trial, arithmetics, best_of, measure
from howdeep.runtime.ranks import Ranks
from howdeep.training import precision as choices
from howdeep.training.config import TrainConfig
from howdeep.training.precision import TrainingSteps
from howdeep.training.recipes import recipe_of

CPU = torch.device("cpu")
BOTH = ("fp32", "bf16")
AUTO = [Arithmetic(name, layout) for layout in ("channels_last", "contiguous") for name in BOTH]


def trial(name: str, seconds: float, difference: float) -> Trial:
    return Trial(name, "contiguous", seconds, 3, None, difference, 1)


def steps_of(chain: Chain, checkpointing: bool = False, batch: int = 4) -> TrainingSteps:
    return TrainingSteps(chain.train(), (batch, 3, 8, 8), recipe_of("fast"), CPU, checkpointing)


def measured(family: str, checkpointing: bool = False, tried: list[Arithmetic] | None = None) -> list[Trial]:
    return measure(steps_of(small_network(family, dropout=0.2), checkpointing), tried or AUTO, threads=[1])


@pytest.mark.parametrize("statistics", ["frozen", "batch"])
def test_a_precision_is_judged_by_the_logits_of_the_mode_in_which_it_is_trained(statistics: Any) -> None:
    chain = small_network("resnet A")
    steps = replace(steps_of(chain), recipe=replace(recipe_of("finetune"), norm_statistics=statistics, freeze=0))
    with torch.no_grad():
        expected = (chain.eval() if statistics == "frozen" else copy.deepcopy(chain).train())(steps.images)
    torch.testing.assert_close(steps.logits(FP32), expected)


def test_trials_leave_chain_statistics_gradients_and_random_state_untouched() -> None:
    for family, checkpointing in zip(("plain", "resnet C", "preresnet C", "densenet"), (True, False) * 2, strict=True):
        chain = small_network(family, dropout=0.2).train()
        before = {name: value.clone() for name, value in chain.state_dict().items()}
        strides = {name: value.stride() for name, value in chain.state_dict().items()}
        torch.manual_seed(3)
        random = torch.get_rng_state()
        measure(steps_of(chain, checkpointing), AUTO, threads=[1])
        assert torch.equal(torch.get_rng_state(), random), family
        assert all(torch.equal(value, before[name]) for name, value in chain.state_dict().items())
        assert {name: value.stride() for name, value in chain.state_dict().items()} == strides
        assert all(weight.grad is None for weight in chain.parameters())
        assert chain.training


def test_photos_that_pass_a_few_at_a_time_are_timed_by_the_first_of_these_parts(monkeypatch) -> None:
    """Five of 32 photos of 224 pixels: a step takes 6.4 times as long, whatever is timed."""
    monkeypatch.setattr(precision, "seconds_of", lambda step, device: 1.0)
    monkeypatch.setattr(stopwatch, "seconds_of", lambda step, device: 1.0)
    given = recipe_of("finetune").settled(given=True)
    for batch, recipe, share in (
        (32, given, 5 / 32),
        (4, given, 1.0),
        (32, replace(given, norm_statistics="batch"), 1.0),
    ):
        steps = TrainingSteps(small_network("resnet A").train(), (batch, 3, 224, 224), recipe, CPU)
        assert steps.share == share
        monkeypatch.setattr(TrainingSteps, "logits", lambda self, arithmetic: torch.ones(2))
        trials = measure(steps, arithmetics("fp32", "channels_last", CPU), threads=[1])
        assert [one.seconds_per_step for one in trials] == [1 / share]


class Lagging(nn.Module):
    """Scores of three classes, from a head whose last parameter, like the largest, says nothing of how many."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scores, self.factors = nn.Linear(channels, 3), nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return self.scores(x.mean((2, 3)) * self.factors)


def test_the_number_of_classes_is_that_of_the_scores_whatever_the_head_is_made_of() -> None:
    chain = small_network("resnet A").train()
    heads = (Lagging(64), nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    for head in heads:
        chain.head = head
        assert measure(steps_of(chain, batch=64), arithmetics("fp32", "auto", CPU), threads=[1])


def test_auto_tries_every_format_and_bf16_where_the_processor_has_instructions_for_it(monkeypatch) -> None:
    for found, tried in (({"avx2": True, "amx_bf16": True}, AUTO), ({"avx2": True, "avx512_bf16": False}, AUTO[::2])):
        monkeypatch.setattr(torch.cpu, "get_capabilities", found.copy)
        assert arithmetics("auto", "auto", CPU) == tried


def test_a_choice_leaves_only_itself() -> None:
    assert arithmetics("fp32", "auto", CPU) == [Arithmetic("fp32", "channels_last"), Arithmetic("fp32", "contiguous")]
    assert arithmetics("bf16", "contiguous", CPU) == [Arithmetic("bf16", "contiguous")]


def test_the_fastest_correct_candidate_is_taken() -> None:
    slow, fast, wrong = trial("fp32", 2.0, 0.0), trial("bf16", 1.0, 0.02), trial("bf16", 0.1, 0.5)
    assert best_of([slow, fast, wrong]) is fast
    assert best_of([wrong, slow]) is slow


def test_scores_that_are_not_numbers_are_not_correct() -> None:
    broken = trial("bf16", 0.1, float("nan"))
    assert not broken.correct
    assert best_of([broken, trial("fp32", 9.0, 0.0)]).precision == "fp32"


def test_a_forced_precision_is_taken_as_it_is() -> None:
    only = trial("bf16", 1.0, 0.5)
    assert best_of([only]) is only


def test_every_trial_says_its_time_and_its_distance_from_fp32(monkeypatch) -> None:
    for name in ("SLOWER", "ENOUGH_SECONDS"):
        monkeypatch.setattr(precision, name, float("inf"))
    found = measured("resnet A")
    assert [one.arithmetic for one in found] == AUTO
    assert all(one.steps == precision.ROUNDS for one in found)
    assert all(one.seconds_per_step > 0 for one in found)
    distances = {(one.precision, one.memory_format): one.difference for one in found}
    # Dropout would make every pass differ from every other one, and no candidate correct.
    assert distances["fp32", "contiguous"] == 0
    assert distances["fp32", "channels_last"] < 1e-4
    assert all(1e-4 < distance < 0.1 for (name, _), distance in distances.items() if name == "bf16")


def test_a_candidate_whose_first_timed_step_is_clearly_slower_is_not_timed_further(monkeypatch) -> None:
    monkeypatch.setattr(precision, "SLOWER", 0.0)
    assert [one.steps for one in measured("resnet A")] == [3, 1, 1, 1]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_candidate_without_enough_memory_is_dropped_and_a_line_says_so(error: Exception, monkeypatch) -> None:
    whole, said = precision._trial, []

    def short(*given) -> Trial:
        arithmetic = next(one for one in given if isinstance(one, Arithmetic))
        if arithmetic.precision == "fp32":
            raise error
        return whole(*given)

    monkeypatch.setattr(precision, "_trial", short)
    monkeypatch.setattr(precision, "ENOUGH_SECONDS", float("inf"))
    monkeypatch.setattr(choices, "arithmetics", lambda *given: [Arithmetic(name, "contiguous") for name in BOTH])
    config = TrainConfig(network="cifar_resnet8", data="digits", threads=1)
    found = choices.choose(config, steps_of(small_network("resnet A")), 9, Ranks(), said.append)
    assert found["chosen"] == {"precision": "bf16", "memory_format": "contiguous", "threads": 1}
    assert said[0] == "  fp32 contiguous    left out: not enough memory"
    assert said[1].startswith("  bf16 contiguous")
    assert " ms a step  selected: logits differ by " in said[1]
    assert [trial["precision"] for trial in found["trials"]] == ["bf16"]


def test_where_memory_is_enough_for_no_candidate_that_is_the_error_and_others_are_raised_as_they_are(
    monkeypatch,
) -> None:
    for error, raised in ((torch.OutOfMemoryError("CUDA out of memory"), MemoryError), (RuntimeError("bug"), None)):

        def fails(*given, error=error) -> Trial:
            raise error

        monkeypatch.setattr(precision, "_trial", fails)
        with pytest.raises(raised or RuntimeError, match=str(error)):
            measured("resnet A", tried=[Arithmetic("fp32", "contiguous")])


def test_every_precision_but_no_further_format_is_tried_when_time_is_up(monkeypatch) -> None:
    """The first may use up all the time, and the second be the fast one."""
    monkeypatch.setattr(precision, "ENOUGH_SECONDS", 0.0)
    found = measured("resnet A")
    assert sorted(trial.precision for trial in found) == sorted(BOTH)
    assert len({trial.memory_format for trial in found}) == 1


def test_trials_go_on_when_time_is_up_until_one_is_correct(monkeypatch) -> None:
    monkeypatch.setattr(precision, "ENOUGH_SECONDS", 0.0)
    monkeypatch.setattr(precision, "TOLERANCE", 0.0)
    assert best_of(measured("resnet A")).arithmetic == Arithmetic("fp32", "contiguous")


class Nothing:
    """A workload without work: what is tried does not depend on what it is tried with."""

    device, share = CPU, 1.0

    def logits(self, arithmetic: Arithmetic) -> Tensor:
        return torch.ones(2)

    def step(self, arithmetic: Arithmetic) -> Callable[[], object]:
        return lambda: None

    def short_step(self) -> Callable[[], object]:
        return lambda: None


def test_threads_are_tried_with_the_best_precision_and_format_alone(monkeypatch) -> None:
    for name in ("HOPELESS", "SLOWER", "ENOUGH_SECONDS"):
        monkeypatch.setattr(precision, name, float("inf"))
    monkeypatch.setattr(stopwatch, "SLOWER", float("inf"))
    before = torch.get_num_threads()
    found = measure(Nothing(), AUTO, threads=[2, 1])
    assert torch.get_num_threads() == before
    assert len(found) == 5
    (both,) = {one.arithmetic for one in found if sum(other.arithmetic == one.arithmetic for other in found) == 2}
    assert {one.threads for one in found if one.arithmetic == both} == {1, 2}
    assert all(one.steps == precision.ROUNDS for one in found if one.arithmetic == both)


def test_every_candidate_does_a_step_that_is_not_measured(monkeypatch) -> None:
    steps = []
    found = precision._time(lambda: steps.append(1), CPU, float("inf"))
    assert len(steps) == 1 + len(found) == 1 + precision.ROUNDS
