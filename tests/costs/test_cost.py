"""What depth costs: counted to the last digit, measured on this device, predicted and checked."""

import io
import json
import math
import os
import signal
import subprocess
import sys
import time
import traceback
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from howdeep import cli
from howdeep.costs import cost as costing
from howdeep.costs import measuring
from howdeep.costs import measuring as peak
from howdeep.costs.caches import Caches, measured_caches
from howdeep.costs.cost import Ladder, cost
from howdeep.costs.counting import counts_of, described, expected_macs, shortcut_macs
from howdeep.costs.measuring import Setting, Times, over_rounds, peak_of_training
from howdeep.costs.options import CostOptions
from howdeep.costs.predicting import Costs, at_depth, kind_of, plans_of
from howdeep.networks import build, spec_of
from howdeep.networks.counting import describe
from howdeep.runtime.timing import Timing
from howdeep.survival import Survival
from howdeep.util.errors import Stopped, UserError
from howdeep.util.records import from_json, to_json

MB = 1_000_000
LARGE_CACHES = Caches(bytes=(1e12,), share=(0.0,), unit_ms=0.0, byte_ms=0.0)


def counted(name: str, rule: str = "constant") -> costing.Counts:
    spec = spec_of(name)
    return counts_of(spec, describe(spec), Survival.parse(rule))


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Costs that are affine in the units; returns the networks that were measured."""
    seen: list[str] = []

    def units(spec) -> int:
        return sum(spec.units)

    def times(spec, setting: Setting, where) -> Times:
        seen.append(spec.name)
        return Times(*(_timing(start + units(spec)) for start in (1.0, 2.0, 3.0)), seconds=units(spec))

    monkeypatch.setattr(costing, "times_of", times)
    monkeypatch.setattr(costing, "measured_caches", lambda threads: LARGE_CACHES)
    monkeypatch.setattr(costing, "peak_of_training", lambda spec, setting, checkpointing: (10 + units(spec)) * MB)
    return seen


def _timing(milliseconds: float) -> Timing:
    return Timing(milliseconds, (0.9 * milliseconds, 1.1 * milliseconds), 5)


FAST = CostOptions(precision="fp32", batch_size=2, size=8, channels=1, rounds=1)


def test_counts_are_those_of_the_literature() -> None:
    counts = counted("cifar_resnet56")
    assert (counts.parameters, counts.macs, counts.flops) == (853_018, 125_485_696, 250_971_392)
    assert counts.training_macs == 3 * 125_485_696
    assert sum(part.macs for part in counts.parts) == counts.macs
    assert sum(part.parameters for part in counts.parts) == counts.parameters


def test_equal_units_under_linear_decay_cost_three_quarters_and_a_bit_less() -> None:
    """L equal units cost (3L − 1)/4 of one under linear decay to 0.5 (Huang et al. 2016, section 4)."""
    spec = replace(spec_of("cifar_preresnet8"), units=(5,), name="one stage")
    network = describe(spec)
    units = [part.macs for part in network.parts if part.index]
    assert len(set(units)) == 1
    around = network.macs - sum(units)
    assert expected_macs(spec, network, Survival("linear", 0.5)) == pytest.approx(around + units[0] * (3 * 5 - 1) / 4)


def test_a_closed_unit_still_computes_its_projection() -> None:
    spec = spec_of("resnet18")
    network = describe(spec)
    projections = [0, 0, 56**2 // 4 * 64 * 128, 0, 28**2 // 4 * 128 * 256, 0, 14**2 // 4 * 256 * 512, 0]
    assert shortcut_macs(spec, network) == projections
    units = sum(part.macs for part in network.parts if part.index)
    open_ = network.macs - units + 0.25 * (units - sum(projections)) + sum(projections)
    assert expected_macs(spec, network, Survival("uniform", 0.25)) == pytest.approx(open_)
    assert expected_macs(spec, network, Survival()) == network.macs


def test_depths_replace_the_one_in_a_name() -> None:
    assert at_depth("cifar_resnet", 56) == at_depth("cifar_resnet20", 56) == "cifar_resnet56"
    assert at_depth("cifar_wideresnet28_10", 40) == "cifar_wideresnet40_10"
    assert at_depth("cifar_densenet_bc100_k12", 40) == at_depth("cifar_densenet_bc_k12", 40)
    assert at_depth("resnet50", 101) == "resnet101"


def test_what_is_measured_and_what_is_predicted() -> None:
    (plan,) = plans_of("cifar_resnet", (1202, 8, 20, 56, 110), None)
    assert [spec.depth for spec in plan.fitted] == [8, 20, 56]
    assert [spec.depth for spec in plan.asked] == [8, 20, 56, 110, 1202]
    (named,) = plans_of("cifar_resnet", (8, 20, 56), (8, 56))
    assert [spec.depth for spec in named.fitted] == [8, 56]
    (alone,) = plans_of("cifar_resnet20", None, None)
    assert not alone.predicts


def test_units_of_another_kind_are_another_line() -> None:
    basic, bottleneck = plans_of("resnet50", (18, 34, 50, 101), None)
    assert [spec.depth for spec in basic.asked] == [18, 34]
    assert [spec.depth for spec in bottleneck.asked] == [50, 101]
    assert [spec.units for spec in bottleneck.fitted] == [
        (1, 1, 1, 1),
        (3, 1, 1, 1),
        (1, 3, 1, 1),
        (1, 1, 3, 1),
        (1, 1, 1, 3),
    ]
    assert {kind_of(spec) for spec in bottleneck.fitted} == {kind_of(spec_of("resnet50"))}


def test_near_depths_are_no_line_to_reach_far_with() -> None:
    (plan,) = plans_of("cifar_resnet", (44, 50, 56, 1202), None)
    assert [spec.units for spec in plan.fitted] == [(1, 1, 1), (3, 3, 3), (9, 9, 9)]


def test_exact_costs_are_predicted_exactly_and_checked(exact: list[str]) -> None:
    (ladder,) = cost("cifar_resnet", (8, 20, 56, 110, 1202), None, replace(FAST, seconds=60.0)).ladders
    few = ["cifar_resnet8", "cifar_resnet20", "cifar_resnet56"]
    assert exact == [*few, *few, "cifar_resnet110"], "once to see what time allows, then all in the same rounds"
    assert [one.fitted for one in ladder.depths] == [True, True, True, False, False]
    check, deep = ladder.depths[3:]
    assert check.error_percent is not None
    assert check.error_percent.training_ms == pytest.approx(0, abs=1e-7)
    assert deep.measured is None
    assert deep.predicted is not None
    assert deep.predicted.training_ms == pytest.approx(603.0, rel=1e-9)
    assert deep.predicted.memory_bytes == pytest.approx(610 * MB, rel=1e-9)
    assert ladder.one_more_costs is not None
    assert ladder.one_more_costs.latency_ms == pytest.approx(3.0, rel=1e-6)
    assert (ladder.one_more.units, ladder.one_more.parameters) == (3, 97_216)


def test_weights_that_no_cache_holds_are_added_to_the_latency_alone(
    exact: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a millisecond a unit from 4 to 8 MB on: of 56 layers, 3.4 MB, none; of 1,202 layers, 78 MB, all."""
    small = Caches(bytes=(4e6, 8e6), share=(0.0, 1.0), unit_ms=0.5, byte_ms=0.0)
    monkeypatch.setattr(costing, "measured_caches", lambda threads: small)
    (ladder,) = cost("cifar_resnet", (8, 20, 56, 1202), None, replace(FAST, seconds=0.0)).ladders
    deep = ladder.depths[-1].predicted
    assert deep is not None
    assert (deep.latency_ms, deep.training_ms) == pytest.approx((601 + 300, 603), rel=1e-9)
    monkeypatch.setattr(costing, "measured_caches", None)
    cost("cifar_resnet", (8, 20, 32, 44), None, replace(FAST, seconds=0.0))  # all of whose weights fit


def test_caches_are_measured_as_shares_and_times_that_are_not_negative() -> None:
    caches = measured_caches(threads=1)
    assert caches.share[0] == 0
    assert caches.share[-1] in (0, 1)
    assert sorted(caches.share) == list(caches.share)
    assert sorted(caches.bytes) == list(caches.bytes)
    assert caches.unit_ms >= 0
    assert caches.byte_ms >= 0
    assert caches.more_ms(described(spec_of("cifar_resnet8"), 8)) == 0
    assert from_json(Caches, to_json(caches)) == caches


def test_no_more_is_measured_than_time_and_memory_allow(exact: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    cost("cifar_resnet", (8, 20, 56, 110), None, replace(FAST, seconds=53.0))
    assert "cifar_resnet110" not in exact
    monkeypatch.setattr(costing, "_free_bytes", lambda device: 50.0 * MB)
    cost("cifar_resnet", (8, 20, 56, 110), None, replace(FAST, seconds=1e9))
    assert "cifar_resnet110" not in exact


def test_a_wrong_prediction_shows_as_an_error(exact: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The deep network takes twice what the line says."""
    honest = costing.times_of

    def slow(spec, setting: Setting, where) -> Times:
        times = honest(spec, setting, where)
        return times if spec.depth < 100 else replace(times, training=_timing(2 * (3.0 + 54)))

    monkeypatch.setattr(costing, "times_of", slow)
    (ladder,) = cost("cifar_resnet", (8, 20, 56, 110), None, FAST).ladders
    error = ladder.depths[-1].error_percent
    assert error is not None
    assert error.training_ms == pytest.approx(-50.0)
    assert error.latency_ms == pytest.approx(0, abs=1e-7)
    assert "of what 110 layers took" in ladder.finding


def test_time_under_survival_follows_the_multiply_adds(exact: list[str]) -> None:
    (ladder,) = cost("cifar_resnet", (8, 20, 56), None, replace(FAST, survival="linear:0.5")).ladders
    for one in ladder.depths:
        assert one.measured is not None
        assert one.measured.training_ms is not None
        share = one.counts.expected_training_macs / one.counts.training_macs
        assert one.expected_training_ms == pytest.approx(share * one.measured.training_ms)
        assert 0.66 < share < 1


def test_the_record_survives_json(exact: list[str]) -> None:
    (ladder,) = cost("cifar_resnet", (8, 20, 56, 110), None, FAST).ladders
    assert from_json(Ladder, json.loads(json.dumps(to_json(ladder)))) == ladder


@pytest.mark.parametrize("survival", ["constant", "linear:0.5"])
def test_tables_fit_80_columns(exact: list[str], survival: str) -> None:
    from rich.console import Console

    options = replace(FAST, survival=survival)
    (ladder,) = cost("cifar_resnet", (8, 20, 56, 110, 1202), None, options).ladders
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(ladder.table())
    text = console.export_text()
    assert "…" not in text.replace("–", "")
    assert "1,202" in text
    assert "predicted" in text


def test_the_quietest_round_counts() -> None:
    def round_(milliseconds: float) -> Times:
        return Times(_timing(milliseconds), _timing(milliseconds + 1), _timing(milliseconds + 2), seconds=2.0)

    times = over_rounds([round_(9.0), round_(3.0), round_(40.0)])
    assert (times.latency.median_ms, times.inference.median_ms, times.training.median_ms) == (3.0, 4.0, 5.0)
    assert times.seconds == 6.0


def test_an_interrupted_measurement_goes_on(exact: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, honest = tmp_path / "cost.json", costing.times_of

    def interrupted(spec, setting: Setting, where) -> Times:
        if spec.depth == 110:
            raise KeyboardInterrupt
        return honest(spec, setting, where)

    monkeypatch.setattr(costing, "times_of", interrupted)
    with pytest.raises(Stopped, match="the same command resumes"):
        cost("cifar_resnet", (8, 20, 56, 110), None, FAST, place=place)
    monkeypatch.setattr(costing, "times_of", honest)
    with pytest.raises(UserError, match="another networks"):
        cost("cifar_resnet", (8, 20, 56, 116), None, FAST, place=place)
    exact.clear()
    (ladder,) = cost("cifar_resnet", (8, 20, 56, 110), None, FAST, place=place).ladders
    assert exact == ["cifar_resnet110"]
    assert all(one.measured for one in ladder.depths)
    costing.forget_kept(place)
    assert list(tmp_path.iterdir()) == []


def test_a_network_is_measured_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times and peaks of this process; those of a process of its own have their test below."""
    monkeypatch.setattr(costing, "peak_of_training", peak._peak)
    monkeypatch.setattr(measuring, "SECONDS", 0.05)
    (ladder,) = cost("cifar_resnet8", None, None, FAST).ladders
    (one,) = ladder.depths
    assert one.predicted is None
    assert one.times is not None
    assert one.measured is not None
    assert all(value is None or 0 < value < math.inf for value in vars(one.measured).values())
    assert one.times.training.runs >= 5
    assert (one.counts.parameters, ladder.precision) == (75_290 - 2 * 9 * 16, "fp32")


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="this system does not tell peaks")
@pytest.mark.slow
def test_the_peak_does_not_depend_on_what_this_process_held_before() -> None:
    """Half a gigabyte that was freed here must not count, and the activations of a larger batch must.

    Adds the numbers of two processes; that one is measured at all, `test_a_network_is_measured_here` tells.
    """
    held = torch.ones(2**27)
    del held
    small, large = (
        peak_of_training(
            spec_of("cifar_resnet8"), Setting(32, batch, "fp32", "channels_last", "cpu"), checkpointing=False
        )
        for batch in (16, 256)
    )
    assert small is not None
    assert large is not None
    assert small < 100 * MB
    assert 150 * MB < large < 450 * MB


def test_a_network_that_does_not_fit_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the process of its own does is done in this one: starting it takes five seconds."""

    def here(words: list[str], *, input: str, **_: object) -> subprocess.CompletedProcess:
        assert words == [sys.executable, "-m", measuring.__name__]
        monkeypatch.setattr(sys, "stdin", io.StringIO(input))
        with pytest.raises(RuntimeError) as failed:
            measuring.main()
        return subprocess.CompletedProcess(words, 1, "", "".join(traceback.format_exception(failed.value)))

    monkeypatch.setattr(measuring.subprocess, "run", here)
    setting = Setting(32, 10**9, "fp32", "channels_last", "cpu")
    said = r"cifar_resnet8 at batch size 1000000000 was not measured: .*memory"
    with pytest.raises(UserError, match=said) as refused:
        peak_of_training(spec_of("cifar_resnet8"), setting, checkpointing=False)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["cifar_resnett20"], "did you mean cifar_resnet20"),
        (["cifar_resnet", "--depths", "8,21"], "cifar_resnet20"),
        (["cifar_resnet", "--depths", "8,x"], "--depths '8,x'"),
        (["cifar_resnet", "--depths", "8,20,0"], "--depths '8,20,0'"),
        (["cifar_resnet"], "unknown network 'cifar_resnet'"),
        (["torchvision:resnet50"], "torchvision:resnet50"),
        (["timm:resnet50", "--depths", "18"], "--depths is not allowed for timm:resnet50"),
        (["cifar_resnet", "--depths", "8,20", "--measured", "8,56"], "--measured 56"),
        (["cifar_resnet", "--depths", "8,20", "--measured", "8"], "two depths"),
        (["cifar_resnet20", "--measured", "8,20"], "--depths"),
        (["cifar_resnet", "--depths", "8,20", "--seconds", "-1"], "seconds -1.0"),
        (["cifar_resnet", "--depths", "8,20", "--seconds", "nan"], "seconds nan"),
        (["cifar_resnet20", "--batch-size", "0"], "batch-size 0"),
        (["cifar_resnet20", "--threads", "0"], "threads 0"),
        (["cifar_resnet20", "--survival", "exactly:99"], "at most 9"),
        (["cifar_resnet20", "--figure", "cost.svg"], "--depths"),
        (["cifar_resnet20", "--depths", "8,20", "--figure", "cost.gif"], ".svg"),
        (["cifar_resnet20", "--rate", "1TFLOP/s"], "--scale"),
        (["cifar_resnet20", "--scale", "4", "--inside", "fast"], "--inside 'fast'"),
        (["cifar_resnet20", "--scale", "4", "--epochs", "-1"], "epochs -1.0"),
        (["densenet121", "--size", "8"], "8×8"),
        (["cifar_resnet20", "--device", "cuda:99"], "cuda:99"),
        ([], "NETWORK"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(costing, "times_of", pytest.fail)
    monkeypatch.setattr(costing, "peak_of_training", pytest.fail)
    assert cli.run(["cost", *arguments]) == 2
    complaint = capsys.readouterr().err.strip()
    assert complaint.count("\n") == 0
    assert said in complaint


def test_the_command_writes_its_record_and_its_chart(
    exact: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    record, chart = tmp_path / "cost.json", tmp_path / "cost.svg"
    options = ["--size", "8", "--channels", "1", "--batch-size", "2", "--precision", "fp32"]
    options += ["--scale", "4", "--seconds", "1000"]
    command = ["cost", "cifar_resnet", "--depths", "8,20,56,110", *options, "--json", str(record)]
    assert cli.run([*command, "--figure", str(chart)]) == 0
    said = json.loads(record.read_text())
    assert said["ladders"][0]["depths"][2]["counts"]["parameters"] == 853_018 - 2 * 9 * 16
    assert said["scaled"][0]["image_seconds"] == pytest.approx(0.057)
    assert said["versions"]["torch"]
    assert "<svg" in chart.read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cost.json", "cost.svg"]
    assert "predicted time within" in capsys.readouterr().out


def test_an_interrupt_ends_in_one_line(
    exact: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(costing, "peak_of_training", lambda *_, **__: signal.raise_signal(signal.SIGINT))
    options = ["--batch-size", "2", "--precision", "fp32", "--json", str(tmp_path / "cost.json")]
    assert cli.run(["cost", "cifar_resnet8", *options]) == 130
    said = capsys.readouterr().err
    assert said.strip().splitlines()[-1] == "howdeep: stopped; the same command resumes"
    assert "Traceback" not in said


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="this system does not list processes in files")
def test_a_signal_to_all_processes_of_the_command_does_not_reach_the_one_that_tells_the_peak(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would pass for a lack of memory. A program that prints its group stands for Python here."""
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\nread -r order\ncut -d' ' -f5 /proc/$$/stat\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    group = peak_of_training(
        spec_of("cifar_resnet8"), Setting(8, 2, "fp32", "channels_last", "cpu"), checkpointing=False
    )
    assert isinstance(group, int)
    assert group != os.getpgrp()


@pytest.mark.slow
def test_ctrl_c_ends_in_one_line(tmp_path: Path) -> None:
    """The two tests above in one: real processes and a signal to their group, while a peak is measured."""
    options = ["--size", "8", "--channels", "1", "--batch-size", "2", "--precision", "fp32", "--json", "cost.json"]
    command = [sys.executable, "-m", "howdeep", "cost", "cifar_resnet", "--depths", "8,20,56", *options]
    running = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True)
    for _ in range(600):
        if list(tmp_path.glob("cost.json*part0")):
            break
        time.sleep(0.1)
    os.killpg(running.pid, signal.SIGINT)
    _, said = running.communicate()
    assert running.returncode == 130
    assert said.strip().splitlines()[-1] == "howdeep: stopped; the same command resumes"
    assert "Traceback" not in said


def test_a_chart_needs_no_number_that_is_missing(exact: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that cannot tell peaks has two panels."""
    monkeypatch.setattr(costing, "measured_caches", lambda threads: LARGE_CACHES)
    monkeypatch.setattr(costing, "peak_of_training", lambda spec, setting, checkpointing: None)
    ladders = cost("cifar_resnet", (8, 20, 56, 110), None, FAST).ladders
    assert ladders[0].depths[0].measured == Costs(4.0, 5.0, 6.0, None, None)
    panels = ladders[0].figure().to_dict()["vconcat"][0]["hconcat"]
    assert len(panels) == 2


def test_initial_weights_of_a_thousand_layers_stay_finite() -> None:
    """What is timed must not overflow: numbers that are not finite take other times."""
    chain = build(spec_of("cifar_resnet1202", channels=1).zero_initialised()).eval()
    with torch.inference_mode():
        assert chain(torch.randn(1, 1, 8, 8)).isfinite().all()
