"""Latencies are those of the place where a network will run, and say so."""

import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

from howdeep.analysis.options import ProbeOptions
from howdeep.chain import Chain
from howdeep.costs.options import CostOptions
from howdeep.cutting.options import CutOptions
from howdeep.cutting.run import asked
from howdeep.deploying import latency
from howdeep.deploying.formats import Content
from howdeep.deploying.latency import latencies, started, written
from howdeep.deploying.quantizing import quantised
from howdeep.networks import build
from howdeep.runs.resume import options_key
from howdeep.runtime.deployment import HERE, NEEDS, Deployment
from howdeep.runtime.precision import true_fp32
from howdeep.runtime.timing import Timing
from howdeep.search.options import FitOptions
from howdeep.util.errors import UserError
from howdeep.util.records import from_json, to_json


def test_a_deeper_network_takes_longer_and_quartiles_hold_the_median() -> None:
    chains = [build(name).eval() for name in ("cifar_resnet8", "cifar_resnet110")]
    shallow, deep = latencies(chains, torch.zeros(1, 3, 32, 32), runs=7, seconds=10)
    assert 3 * shallow.median_ms < deep.median_ms
    for timing in (shallow, deep):
        assert timing.quartiles_ms[0] <= timing.median_ms <= timing.quartiles_ms[1]
        assert timing.where == HERE


def test_what_is_timed_runs_in_the_threads_and_on_the_images_that_were_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And the time of one image is its share of the batch."""
    seen = set()

    class Seen(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.add((torch.get_num_threads(), *images.shape, images.is_contiguous(memory_format=torch.channels_last)))
            return images

    def by_turns(passes, **_) -> list[Timing]:
        return [Timing(10.0, (9.0, 11.0), 5) for run in passes if run() is not None]

    monkeypatch.setattr(latency, "by_turns", by_turns)
    image, where = torch.zeros(1, 3, 4, 4).contiguous(memory_format=torch.channels_last), Deployment("torch", 2, 5)
    chain = Chain(Seen(), [], nn.Identity())
    (found,) = latencies([chain], image, where)
    assert seen == {(2, 5, 3, 4, 4, True)}
    assert found == Timing(2.0, (1.8, 2.2), 5, where)
    assert from_json(Timing, to_json(found)) == found


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_what_is_timed_elsewhere_is_the_network(runtime: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its logits are torch's, on a batch, also where a study has forbidden TF32; the network stays as it was."""
    pytest.importorskip(runtime, reason=f"{runtime} is not installed: pip install 'howdeep[{NEEDS[runtime][0]}]'")
    chain, images = build("cifar_resnet8").eval(), torch.randn(3, 3, 8, 8)
    images = images.contiguous(memory_format=torch.channels_last)
    with true_fp32(), torch.inference_mode():
        expected = chain(images)
        logits = started(written(chain, images, runtime), images, Deployment(runtime, batch=3))()
        assert torch.equal(chain(images), expected)
        content = written(chain, images[:1], runtime)
        monkeypatch.setattr(latency, "onnx_content", None)
        assert len(latencies([content] * 2, images[:1], Deployment(runtime, 1, 2), runs=1)) == 2, "written once"
    assert isinstance(logits, torch.Tensor)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


def test_a_network_that_a_runtime_refuses_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: bytes, threads: int) -> None:
        raise RuntimeError("[ONNXRuntimeError] : 9 : NOT_IMPLEMENTED\nat node 7")

    monkeypatch.setattr(latency, "portable_program", lambda *_: None)
    monkeypatch.setattr(latency, "onnx_content", lambda *_: Content(b"", 18, 0))
    monkeypatch.setitem(latency.RUNNERS, "onnxruntime", refuse)
    with pytest.raises(UserError, match=r"^onnxruntime cannot run this network: .*NOT_IMPLEMENTED$"):
        latencies([build("cifar_resnet8").eval()], torch.zeros(1, 3, 8, 8), Deployment("onnxruntime"))


def test_what_onnxruntime_cannot_quantise_is_one_line() -> None:
    with pytest.raises(UserError, match=r"^the network cannot be written in int8: [^\n]+$"):
        quantised(b"", [])


def test_a_place_that_there_is_not_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"^unknown runtime 'onnx'; did you mean onnxruntime or openvino\?$"):
        Deployment("onnx")
    with pytest.raises(UserError, match=r"^threads 0 is not allowed: it must be at least 1$"):
        Deployment(threads=0)
    with pytest.raises(UserError, match=r"^batch 0 is not allowed: it must be at least 1$"):
        Deployment(batch=0)
    with pytest.raises(UserError, match=r"^latency-batch -1 is not allowed: it must be at least 1$"):
        CutOptions(data="digits", latency_batch=-1)
    monkeypatch.setitem(sys.modules, "openvino", None)
    missing = r"^runtime openvino needs openvino: pip install 'howdeep\[openvino\]'$"
    for refused in (
        lambda: CutOptions(data="digits", runtime="openvino"),
        lambda: latencies([], torch.zeros(1, 3, 8, 8), Deployment("openvino")),
    ):
        with pytest.raises(UserError, match=missing):
            refused()
    assert from_json(Timing, to_json(Timing(1.0, (1.0, 1.0), 5, Deployment("openvino")))), "records can be read"


def test_every_command_that_times_is_told_where_and_its_work_depends_on_it() -> None:
    place = {"runtime": "onnxruntime", "latency_batch": 4, "threads": 2}
    fit, probe = FitOptions(data="digits", train_budget="1m", **place), ProbeOptions(data="digits", **place)
    cut, cost = CutOptions(data="digits", **place), CostOptions(**place)
    for options in (fit, probe, cut, cost):
        assert options.where == Deployment("onnxruntime", 2, 4)
    here = replace(fit, runtime="torch", latency_batch=1, threads="auto")
    assert here.where == HERE
    differs = {name for name, value in fit.asked().items() if here.asked()[name] != value}
    assert differs == set(place)
    for key in (asked(cut), options_key(probe), options_key(cost, CostOptions)):
        assert {name: key[f"--{name.replace('_', '-')}"] for name in place} == place


def test_a_time_says_where_it_was_measured_unless_that_is_the_usual_place() -> None:
    usual = Timing(1.2, (1.1, 1.3), 20)
    assert [usual.aside, replace(usual, where=HERE).aside] == ["", ""]
    told = {
        Deployment("onnxruntime"): " (onnxruntime, 1 thread)",
        Deployment("openvino", 2, 8): " (openvino, 2 threads, 8 images at a time)",
    }
    assert {where: replace(usual, where=where).aside for where in told} == told
