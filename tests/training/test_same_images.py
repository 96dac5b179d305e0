"""A run resumes with its own images only; other commands on it take what is sound, and say what changed."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from howdeep import cli
from howdeep.data import open_data
from howdeep.data.recorded import SPLITS
from howdeep.runs.folder import IMAGES, open_run

CLASSES = ("a", "b", "c")


def write(root: Path, name: str, seed: int, level: int = 0) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 120, (8, 8, 3))
    Image.fromarray((noise + level).astype(np.uint8)).save(path)


def folder(root: Path, each: int = 20) -> Path:
    """Classes that differ in brightness, so that one epoch tells them apart or not, but numbers differ."""
    for place, name in enumerate(CLASSES):
        for number in range(each):
            write(root, f"{name}/{number:02}.png", 100 * place + number, 60 * place)
    return root


def train(data: Path, out: Path, *more: str) -> list[str]:
    options = ["--epochs", "1", "--batch-size", "16", "--device", "cpu", "--precision", "fp32", *more]
    return ["train", "cifar_resnet8", "--data", str(data), "--out", str(out), "--memory-format", "contiguous", *options]


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder of images, and a finished run on it."""
    root = tmp_path_factory.mktemp("begun")
    folder(root / "d")
    assert cli.run(train(root / "d", root / "run")) == 0
    return root / "d", root / "run"


@pytest.fixture
def own(begun: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    """The same in a place of its own; the run is a copy, the images lie elsewhere than they did."""
    data, run = (Path(shutil.copytree(path, tmp_path / path.name)) for path in begun)
    return data, run


def gray(root: Path) -> None:
    for path in root.glob("*/*.png"):
        Image.open(path).convert("L").save(path)


def larger(root: Path) -> None:
    for path in root.glob("*/*.png"):
        Image.open(path).resize((16, 16)).save(path)


def swapped(root: Path) -> None:
    (root / "a/00.png").rename(root / "00.png")
    (root / "b/00.png").rename(root / "a/00.png")
    (root / "00.png").rename(root / "b/00.png")


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "class added": (lambda root: write(root, "e/0.png", 70000), "class 'e' added, 1 image new (first e/0.png)"),
    "class renamed": (lambda root: (root / "c").rename(root / "0c"), "class '0c' added, class 'c' gone"),
    "class gone": (lambda root: shutil.rmtree(root / "c"), "class 'c' gone, 20 images gone (first c/00.png)"),
    "image added": (lambda root: write(root, "a/new.png", 70000), "1 image new (first a/new.png)"),
    "image gone": (lambda root: (root / "a/00.png").unlink(), "1 image gone (first a/00.png)"),
    "image changed": (lambda root: write(root, "a/00.png", 70000), "1 image changed (first a/00.png)"),
    "labels swapped": (swapped, "2 images of another class (first "),
    "gray": (gray, "images of 1×8×8 (channels, height, width), were 3×8×8, 60 images changed"),
    "larger": (larger, "images of 3×16×16 (channels, height, width), were 3×8×8, 60 images changed"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_other_images_end_the_same_command_in_one_line_that_names_them(
    change: str, own: tuple[Path, Path], capsys: pytest.CaptureFixture
) -> None:
    (data, run), (alter, said) = own, CHANGES[change]
    alter(data)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert cli.run(train(data, run)) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert f"{run} was begun with other data: {said}" in lines[0]
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


def test_the_same_images_elsewhere_and_under_other_names_resume(
    own: tuple[Path, Path], capsys: pytest.CaptureFixture
) -> None:
    data, run = own
    for path in data.glob("*/*.png"):
        path.rename(path.with_name(f"{99 - int(path.stem)}.png"))
    assert cli.run(train(data.rename(data.with_name("moved")), run)) == 0
    finished, kept, test, *following = capsys.readouterr().err.splitlines()
    assert finished == f"{run} is finished; nothing to do"
    assert kept.startswith("kept: epoch")
    assert re.fullmatch(r"test error .* % \(95 %: .*\), n = 6", test)
    assert f"howdeep lesion {run}" in following[0]


def evaluated(run: Path, data: Path, *more: str) -> dict:
    place = run.parent / "e.json"
    assert cli.run(["evaluate", str(run), "--data", str(data), "--json", str(place), "--overwrite", *more]) == 0
    return json.loads(place.read_text())


def test_evaluation_on_a_grown_folder_is_that_of_the_run(own: tuple[Path, Path], capsys: pytest.CaptureFixture) -> None:
    data, run = own
    before = evaluated(run, data)
    for number in range(30):
        write(data, f"{CLASSES[number % 3]}/0{number}0.png", 1000 + number)
        shutil.copy(data / f"a/{number % 20:02}.png", data / f"c/copy{number}.png")
    after = evaluated(run, data)
    assert (after["n"], after["error_percent"], after["loss"]) == (before["n"], before["error_percent"], before["loss"])
    said = capsys.readouterr().err
    assert "30 images new (first a/000.png), in train and not in validation or test" in said
    assert "30 images copied from others" in said


def test_trained_images_in_a_test_folder_of_other_data_are_left_out(
    own: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (data, run), other = own, tmp_path / "other"
    for name in CLASSES:
        for path in (data / name).glob("*.png"):
            (other / "test" / name).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, other / "test" / name / f"x{path.name}")
        write(other, f"test/{name}/fresh.png", 5000)
    trained = int((open_run(run).images().splits == SPLITS.index("train")).sum())  # type: ignore[union-attr]
    assert evaluated(run, other)["n"] == 63 - trained
    assert f"test: {trained} images left out, trained on" in capsys.readouterr().err
    shutil.rmtree(other)
    images = open_run(run).images()
    assert images is not None
    for name, split in zip(images.names, images.splits.tolist(), strict=True):
        if split == SPLITS.index("train"):
            (other / "test" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(data / name, other / "test" / name)
    assert cli.run(["evaluate", str(run), "--data", str(other)]) == 2
    assert "test" in capsys.readouterr().err


def parquet(path: Path, data: Path, order: tuple[str, ...]) -> Path:
    files = sorted(data.glob("*/*.png"))
    images = pa.array([{"bytes": file.read_bytes(), "path": file.name} for file in files])
    labels = pa.array([order.index(file.parent.name) for file in files])
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": list(order)}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(pa.table({"image": images, "label": labels}).replace_schema_metadata(metadata), path)
    return path


def test_classes_in_another_order_are_matched_by_name(own: tuple[Path, Path], capsys: pytest.CaptureFixture) -> None:
    data, run = own
    before = evaluated(run, data)
    after = evaluated(run, parquet(data.with_name("p.parquet"), data, ("c", "a", "b")))
    assert [after[name] for name in ("n", "error_percent", "loss")] == [
        before[name] for name in ("n", "error_percent", "loss")
    ]
    assert "classes in another order than before, matched by name: a, b, c" in capsys.readouterr().err
    assert cli.run(train(data.with_name("p.parquet"), run)) == 2
    assert "classes in another order (c, a, b; were a, b, c)" in capsys.readouterr().err


def test_a_ladder_resumes_with_its_own_images_only(
    own: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (data, run), ladder = own, tmp_path / "ladder"
    shutil.copytree(run, ladder / "cifar_resnet8-seed0")
    asked = ["degradation", "--data", str(data), "--families", "resnet", "--depths", "8,14", "--seeds", "1"]
    asked += ["--epochs", "1", "--batch-size", "16", "--device", "cpu", "--out", str(ladder)]
    for change in ("image added", "class renamed"):
        alter, said = CHANGES[change]
        alter(data)
        assert cli.run(asked) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1
        assert "cifar_resnet8-seed0 was begun with other data: " in lines[0]
        assert said in lines[0]
        assert not (ladder / "cifar_resnet14-seed0").exists()


@pytest.mark.parametrize("command", ["explore", "paths"])
def test_a_page_and_paths_see_the_images_of_the_run_in_a_grown_folder(
    command: str, own: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (data, run), pages = own, []
    monkeypatch.setattr("howdeep.explorer.serve.serve", lambda served, *_, **more: pages.extend(served))

    def images() -> int:
        if command == "explore":
            assert cli.run(["explore", str(run), "--data", str(data), "--device", "cpu"]) == 0
            return sum(len(batch.labels) for batch in pages.pop().engine.sample.batches)
        more = ["--draws", "0", "--json", str(tmp_path / "p.json"), "--overwrite", "--device", "cpu"]
        assert cli.run(["paths", str(run), "--data", str(data), *more]) == 0
        return json.loads((tmp_path / "p.json").read_text())["n"]

    before = images()
    capsys.readouterr()
    for number in range(30):
        write(data, f"{CLASSES[number % 3]}/0{number}0.png", 1000 + number)
    assert images() == before
    assert "30 images new (first a/000.png), in train and not in validation or test" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["evaluate", "lesion", "paths", "flow", "cut", "export", "explore"])
def test_data_come_from_the_run_and_other_classes_are_refused_by_name(
    command: str, own: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    data, run = own
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "data": {**record["data"], "source": str(data)}}))
    (data / "c").rename(data / "0c")
    out = ["--out", str(tmp_path / "net.pt2")] if command == "export" else []
    words = [command, str(run), *out]
    assert cli.run(words) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"howdeep: {data} has other classes than {run}: class '0c' added, class 'c' gone"]
    data.rename(tmp_path / "elsewhere")
    assert cli.run(words) == 2
    gone = f"howdeep: {run} was trained on {data}, and there is no such data here: give --data\n"
    assert capsys.readouterr().err == gone


def test_a_run_without_the_record_is_used_with_a_note(own: tuple[Path, Path], capsys: pytest.CaptureFixture) -> None:
    (data, run), note = own, "does not say which images it was trained on"
    before = evaluated(run, data)
    assert note not in capsys.readouterr().err
    (run / IMAGES).unlink()
    assert evaluated(run, data)["loss"] == before["loss"]
    assert note in capsys.readouterr().err
    run_json = json.loads((run / "run.json").read_text())
    run_json["config"]["data"] = str(data)
    (run / "run.json").write_text(json.dumps(run_json))
    assert cli.run(train(data, run)) == 0
    assert note in capsys.readouterr().err
    write(data, "e/0.png", 70000)
    assert cli.run(train(data, run)) == 2
    assert "class 'e' added" in capsys.readouterr().err


def test_a_limit_is_recorded_and_what_it_leaves_out_is_no_change(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    data, run = folder(tmp_path / "d"), tmp_path / "run"
    assert cli.run(train(data, run, "--limit", "42")) == 0
    capsys.readouterr()
    assert cli.run(train(data, run, "--limit", "42")) == 0
    assert "finished; nothing to do" in capsys.readouterr().err
    images = open_run(run).images()
    assert images is not None
    assert images.splits.bincount().tolist() == [42, 6, 6, 6]


def test_a_cut_network_remembers_what_its_network_was_trained_on(
    own: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (data, run), other, cut = own, folder(tmp_path / "other", each=26), tmp_path / "cut"
    for path in sorted(other.glob("*/*.png"))[::2]:
        write(other, str(path.relative_to(other)), 9000 + int(path.stem))
    more = ["--remove", "3", "--out", str(cut), "--epochs", "1", "--device", "cpu", "--precision", "fp32"]
    assert cli.run(["cut", str(run), "--data", str(other), *more]) == 0
    both = open_run(cut).images()
    assert both is not None
    trained = set(both.digests[(both.splits == 0) | (both.splits == SPLITS.index("before"))].tolist())
    parent = open_run(run).images()
    assert parent is not None
    assert set(parent.digests[parent.splits == 0].tolist()) <= trained
    for place in (data, other):
        dataset = open_data(str(place), recorded=both)
        for split in (dataset.validation, dataset.test):
            assert split is None or not set(split.digests.tolist()) & trained  # type: ignore[union-attr]
    assert cli.run(["cut", str(run), "--data", str(other), *more]) == 0
    capsys.readouterr()
