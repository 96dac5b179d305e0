"""``howdeep probe`` as a user types it: data of other classes, a table of 80 columns, and one line per mistake."""

import json
from pathlib import Path

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from howdeep import cli
from howdeep.analysis.depths import Probe
from howdeep.analysis.evaluation import fingerprint
from howdeep.data import open_data
from howdeep.show.report.reading import read_record

SMALL = ("--limit", "40", "--device", "cpu", "--threads", "1")
SHARED = Path(__file__).resolve().parents[3] / "shared"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a network of 1,000 classes, such as one publishes."""
    place = tmp_path_factory.mktemp("weights") / "w.safetensors"
    torch.manual_seed(0)
    save_file(timm.create_model("resnet10t").state_dict(), place)
    return place


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of two classes, which are bright or dark."""
    folder, draw = tmp_path_factory.mktemp("shapes"), torch.Generator().manual_seed(0)
    for name, low, high in (("dark", 0, 120), ("bright", 110, 256)):
        (folder / name).mkdir()
        for number in range(30):
            pixels = torch.randint(low, high, (40, 40, 3), generator=draw, dtype=torch.uint8)
            Image.fromarray(pixels.numpy()).save(folder / name / f"{number}.png")
    return folder


def probe(weights: Path, data: Path | str, *options: object) -> int:
    network = ["timm:resnet10t", "--weights", str(weights), "--size", "32"]
    return cli.run(["probe", *network, "--data", str(data), *SMALL, *map(str, options)])


def test_a_network_of_a_thousand_classes_is_probed_on_two(
    weights: Path, shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    place, drawn = tmp_path / "probe.json", tmp_path / "probe.svg"
    assert probe(weights, shapes, "--json", place, "--figure", drawn) == 0
    shown = capsys.readouterr()
    assert max(map(len, shown.out.splitlines())) <= 80
    assert "classifiers fitted on 40 images of 2 classes" in shown.out
    found = read_record(place)
    assert found is not None
    assert isinstance(record := found.value, Probe)
    assert (record.n, record.train_images, record.classes, record.units) == (6, 40, 2, 4)
    assert record.test is not None
    assert (record.test.n, found.origin.split) == (6, "val")
    assert record.choice.fitted.answers.images == fingerprint(open_data(str(shapes), size=32).split("val"))
    assert shown.out.splitlines()[0].startswith(record.finding[:60])
    assert drawn.read_text().startswith("<svg")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["probe.json", "probe.svg"]


def test_the_test_split_may_choose_and_is_then_read_for_nothing_else(
    weights: Path, shapes: Path, tmp_path: Path
) -> None:
    assert probe(weights, shapes, "--split", "test", "--json", tmp_path / "p.json") == 0
    assert json.loads((tmp_path / "p.json").read_text())["test"] is None


def test_a_report_tells_of_a_probe(weights: Path, shapes: Path, tmp_path: Path) -> None:
    place, page = tmp_path / "probe.json", tmp_path / "report.html"
    assert probe(weights, shapes, "--json", place) == 0
    assert cli.run(["report", str(place), "--out", str(page)]) == 0
    assert "Probe: error at every depth" in page.read_text()


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--split", "train"], "split 'train' is not allowed: classifiers are fitted on it; allowed: val, test"),
        (["--split", "tset"], "'tset'"),
        (["--latency-budget", "2"], "latency-budget"),
        (["--latency-budget", "1us"], "no depth of this network holds latency-budget 0.001ms"),
        (["--precision", "fp8"], "fp32"),
        (["--views", "11"], "views 11 is not allowed: 1 to 10"),
        (["--flip", "no"], "--flip no is not allowed without --views"),
        (["--limit", "0"], "limit 0 is not allowed"),
        (["--figure", "chart.gif"], ".svg"),
        (["--mean", "0.1"], "--std"),
    ],
)
def test_a_mistake_is_one_line(
    options: list[str], line: str, weights: Path, shapes: Path, capsys: pytest.CaptureFixture
) -> None:
    assert probe(weights, shapes, *options) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("howdeep: ")
    assert line in said


def test_data_without_training_images_are_refused(
    weights: Path, shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "val").mkdir()
    for name in ("dark", "bright"):
        (tmp_path / "val" / name).symlink_to(shapes / name)
    assert probe(weights, tmp_path) == 2
    assert "has no training images: a classifier is fitted on them at every depth" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_published_weights_know_signs_of_hands_before_their_end(tmp_path: Path) -> None:
    """At 64 pixels: a third of the images is right behind the stem already, and most are half way."""
    weights, data = SHARED / "weights" / "timm" / "tf_efficientnet_lite0.safetensors", SHARED / "data" / "sign"
    if not weights.exists() or not data.exists():
        pytest.skip(f"needs {weights} and {data}")
    place = tmp_path / "probe.json"
    network = ["timm:tf_efficientnet_lite0", "--weights", str(weights), "--size", "64"]
    assert cli.run(["probe", *network, "--data", str(data), "--json", str(place)]) == 0
    record = read_record(place)
    assert record is not None
    depths = record.value.depths
    assert [depth.units for depth in depths if depth.head == "kept"] == [6, 7, 8, 9]
    assert len(depths) == 14
    assert depths[0].fitted.error_percent > 1.5 * depths[4].fitted.error_percent
    assert min(depth.fitted.error_percent for depth in depths) < 20
    assert all(depth.neighbour_error_percent > depth.fitted.error_percent for depth in depths)
