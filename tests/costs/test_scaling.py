"""Scaling on paper: the formula in closed form, and the worked example as the command prints it."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from howdeep import cli
from howdeep.costs.scaling import (
    Cluster,
    Link,
    TrainingJob,
    bytes_per_second,
    cluster_of,
    flops_per_second,
    node_counts,
    on_paper,
    ring_bytes,
    ring_seconds,
    scaled,
    seconds_per_image,
)

PAGE = Path(__file__).parents[2] / "docs" / "scaling.md"
FREE = Link(1e30, 0.0)
JOB = TrainingJob(parameters=25_000_000, batch_size=100, images=1_000_000, epochs=10)


def test_a_training_step_costs_three_forward_passes_of_two_flops_per_multiply_add() -> None:
    assert seconds_per_image(4_000_000_000, 24e12) == pytest.approx(1e-3, rel=1e-12)


def test_a_ring_sends_the_gradient_almost_twice() -> None:
    assert ring_bytes(1, 1e8) == 0
    assert ring_bytes(4, 1e8) == pytest.approx(1.5e8)
    assert ring_seconds(4, 1e8, Link(1e9, 1e-3)) == pytest.approx(0.15 + 6e-3)


def test_without_links_to_wait_for_every_device_counts_fully() -> None:
    found = scaled(JOB, Cluster(16, 8, FREE, FREE), image_seconds=1e-3)
    assert found.efficiency == pytest.approx((1.0, 1.0))
    assert found.batch_size == 12_800
    assert found.seconds[1] == pytest.approx(10 * 1_000_000 * 1e-3 / 128)


def test_the_backward_pass_hides_two_thirds_of_a_step_and_no_more() -> None:
    """Compute takes 0.1 s; the ring of two nodes sends 1e8 bytes at so many bytes a second."""
    hidden = scaled(JOB, Cluster(2, 1, FREE, Link(1e8 / 0.06, 0.0)), image_seconds=1e-3)
    assert hidden.step_seconds == pytest.approx((0.1, 0.16))
    late = scaled(JOB, Cluster(2, 1, FREE, Link(1e8 / 0.2, 0.0)), image_seconds=1e-3)
    assert late.step_seconds == pytest.approx((0.1 + 0.2 - 0.1 * 2 / 3, 0.3))
    assert late.efficiency == pytest.approx((0.1 / (0.3 - 0.2 / 3), 1 / 3))


@given(nodes=st.integers(1, 2000), per_node=st.integers(1, 16), bandwidth=st.floats(1e6, 1e12))
def test_more_nodes_never_raise_the_efficiency_and_never_send_more_than_twice(
    nodes: int, per_node: int, bandwidth: float
) -> None:
    link = Link(bandwidth)
    few, more = (scaled(JOB, Cluster(count, per_node, link, link), 1e-3) for count in (nodes, 2 * nodes))
    for before, after in zip(few.efficiency, more.efficiency, strict=True):
        assert 0 < after <= before * (1 + 1e-12) <= 1 + 1e-9
    assert more.traffic_bytes < 2 * 4 * JOB.parameters


@pytest.mark.parametrize(("most", "counts"), [(1, [1]), (8, [1, 2, 4, 8]), (12, [1, 2, 4, 8, 12])])
def test_clusters_double(most: int, counts: list[int]) -> None:
    assert node_counts(most) == counts


def test_clusters_and_rates_are_read_as_they_are_written() -> None:
    cluster = cluster_of("64x8", "300GB/s", "25GB/s")
    assert (cluster.nodes, cluster.per_node, cluster.devices) == (64, 8, 512)
    assert (cluster.inside.bytes_per_second, cluster.between.bytes_per_second) == (300e9, 25e9)
    assert cluster_of("5", "1GB/s", "1GB/s").devices == 5
    assert flops_per_second("rate", "60TFLOP/s") == 60e12
    assert bytes_per_second("inside", "12.5GB/s") == 12.5e9


def test_a_rate_and_the_time_that_follows_from_it_scale_alike() -> None:
    cluster = cluster_of("8x8", "300GB/s", "25GB/s")
    by_rate = on_paper("net", JOB, cluster, 4_000_000_000, flops_per_second=24e12)
    measured = on_paper("net", JOB, cluster, 4_000_000_000, image_seconds=1e-3)
    assert by_rate.rows == measured.rows
    with pytest.raises(ValueError, match="by its rate, or by its time"):
        on_paper("net", JOB, cluster, 4_000_000_000)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--scale", "many"], "--scale 'many'"),
        (["--scale", "0x8"], "nodes 0"),
        (["--scale", "4", "--between", "25Gbit"], "--between '25Gbit'"),
        (["--scale", "4", "--inside", "-1GB/s"], "--inside -1GB"),
        (["--scale", "4", "--rate", "fast"], "--rate 'fast'"),
        (["--scale", "4", "--rate", "0TFLOP/s"], "--rate '0TFLOP/s'"),
        (["--scale", "4", "--images", "0"], "images 0"),
        (["--scale", "4", "--epochs", "nan"], "epochs nan"),
    ],
)
def test_a_mistake_is_one_line(options: list[str], said: str, capsys: pytest.CaptureFixture) -> None:
    rate = [] if "--rate" in options else ["--rate", "60TFLOP/s"]
    assert cli.run(["cost", "resnet50", *options, *rate]) == 2
    complaint = capsys.readouterr().err
    assert complaint.count("\n") == 1
    assert said in complaint


def test_measures_nothing_where_a_device_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("howdeep.costs.cost.times_of", pytest.fail)
    assert cli.run(["cost", "cifar_resnet20", "--scale", "2", "--rate", "1TFLOP/s"]) == 0


def test_every_width_is_a_network_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    record = tmp_path / "cost.json"
    asked = ["cost", "cifar_resnet", "--depths", "8,14", "--widths", "1,4", "--scale", "2", "--rate", "1TFLOP/s"]
    assert cli.run([*asked, "--json", str(record)]) == 0
    names = [one["network"] for one in json.loads(record.read_text())["scaled"]]
    assert names == ["cifar_resnet8", "cifar_resnet14", "cifar_resnet8_w4", "cifar_resnet14_w4"]
    assert cli.run([*asked, "--widths", "0"]) == 2
    assert "--widths '0' is not allowed: it must be whole numbers above 0" in capsys.readouterr().err


def test_the_worked_example_is_what_the_command_prints(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    (command,) = re.findall(r"^```sh\nhowdeep (.*?)\n```", PAGE.read_text(), re.MULTILINE)
    (printed,) = re.findall(r"^```text\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert cli.run(command.split()) == 0
    assert capsys.readouterr().out.rstrip() == printed.rstrip()


def test_every_number_of_the_pages_text_follows_from_the_formula() -> None:
    """In bold: what the text derives by hand from the example."""
    cluster = cluster_of("64x8", "300GB/s", "25GB/s")
    job = TrainingJob(parameters=25_557_032, batch_size=64, images=1_281_167, epochs=90)
    rows = on_paper("resnet50", job, cluster, 4_089_184_256, flops_per_second=60e12).rows
    slow = on_paper(
        "resnet50", job, cluster_of("64x8", "300GB/s", "1.25GB/s"), 4_089_184_256, flops_per_second=60e12
    ).rows[-1]
    said = re.findall(r"\*\*(.+?)\*\*", PAGE.read_text())
    assert said == [
        f"{rows[-1].compute_seconds * 1e3:.1f} ms",
        f"{rows[-1].reduce_seconds * 1e3:.1f} ms",
        f"{100 * (rows[-1].step_seconds[1] / rows[-1].step_seconds[0] - 1):.0f} %",
        f"{100 * slow.efficiency[0]:.0f} %",
        f"{rows[-1].batch_size:,}",
    ]
