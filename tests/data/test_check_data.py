import io
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from howdeep.data import open_data
from howdeep.data.check import DataReport, check
from howdeep.data.sheet import contact_sheet, draw_sheet
from howdeep.show.catalogue_tables import check_table
from howdeep.util.errors import UserError
from howdeep.util.files import SaveError


def lines(report: DataReport) -> list[str]:
    """Return what a terminal shows of a report, its spaces at the ends of lines left out."""
    screen = io.StringIO()
    Console(file=screen, width=80).print(check_table(report))
    return [line.rstrip() for line in screen.getvalue().splitlines()]


@pytest.fixture
def messy(tmp_path: Path, write_classes) -> Path:
    """Split folders with one of everything that can be wrong; all digits differ until files are copied."""
    root = tmp_path / "messy"
    write_classes(root / "train", each=20)
    write_classes(root / "test", each=5, skip=20)
    one = root / "train" / "0" / "0000.png"
    Image.open(one).convert("RGB").save(root / "train" / "0" / "copy.bmp")
    shutil.copy(
        root / "test" / "1" / sorted((root / "test" / "1").iterdir())[0].name,
        root / "train" / "1" / "leak.png",
    )
    shutil.copy(sorted((root / "train" / "2").iterdir())[0], root / "train" / "1" / "wrong.png")
    (root / "train" / "2" / "cut.png").write_bytes(one.read_bytes()[:60])
    (root / "test" / "2" / "text.jpg").write_text("no image")
    (root / "test" / "2" / "notes.txt").write_text("no image")
    return root


def test_clean_data_has_nothing_to_report(cifar_files: Path) -> None:
    report = check(str(cifar_files / "test.parquet"))
    assert {split: sum(found.values()) for split, found in report.counts.items()} == {"test": 500}
    assert report.shape == (3, 32, 32)
    assert (report.sizes, report.modes) == ({"32×32": 500}, {"RGB": 500})
    assert report.problems == report.duplicates == report.shared == report.conflicts == ()


def test_counts_are_those_of_the_opened_splits(messy: Path) -> None:
    report = check(str(messy), seed=4)
    dataset = open_data(str(messy), seed=4, skip_broken=True)
    for name in ("train", "validation", "test"):
        counts = dataset.split(name).labels.bincount(minlength=3).tolist()
        assert list(report.counts[name].values()) == counts


def test_every_kind_of_fault_is_found_by_name(messy: Path) -> None:
    report = check(str(messy))
    assert [(each.name, each.split, each.kind) for each in report.problems] == [
        ("train/2/cut.png", "train", "broken"),
        ("test/2/text.jpg", "test", "not an image"),
    ]
    assert {name for group in report.duplicates for name in group.names} >= {
        "train/0/0000.png",
        "train/0/copy.bmp",
    }
    assert len(report.duplicates) == 3
    leaks = [group for group in report.shared if "train/1/leak.png" in group.names]
    assert len(leaks) == 1
    assert set(leaks[0].splits) - {"test"} <= {"train", "validation"}
    assert "test" in leaks[0].splits
    (conflict,) = report.conflicts
    assert "train/1/wrong.png" in conflict.names
    assert set(conflict.classes) == {"1", "2"}
    assert report.modes == {"L": 77, "RGB": 1}
    assert "ignored files that are not images: 1 .txt" in report.notes


def test_only_equal_pictures_are_duplicates(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / "set" / name).mkdir(parents=True)
    Image.new("L", (8, 4)).save(tmp_path / "set" / "a" / "wide.png")
    Image.new("L", (4, 8)).save(tmp_path / "set" / "a" / "tall.png")
    Image.new("RGB", (8, 8), (76, 76, 76)).save(tmp_path / "set" / "b" / "gray.png")
    Image.new("RGB", (8, 8), (254, 0, 0)).save(tmp_path / "set" / "b" / "red.png")  # as bright as the gray
    assert check(str(tmp_path / "set")).duplicates == ()


def test_report_is_json_and_fits_eighty_columns(messy: Path) -> None:
    long = messy / "train" / "0" / f"{'long' * 40}.png"
    long.write_bytes(b"")
    report = check(str(messy))
    assert json.loads(json.dumps(asdict(report)))["problems"][0]["kind"] == "empty"
    text = lines(report)
    assert max(map(len, text)) <= 80
    assert "broken: 3" in text
    assert any(line.startswith("  train/2/cut.png (broken: ") for line in text)
    assert "same image, other class: 1" in text


def test_many_classes_and_faults_are_cut_and_say_so(tmp_path: Path) -> None:
    for label in range(60):
        (tmp_path / "set" / f"class{label:03}").mkdir(parents=True)
        for copy in range(4):
            Image.new("L", (8, 8), label).save(tmp_path / "set" / f"class{label:03}" / f"{copy}.png")
        (tmp_path / "set" / f"class{label:03}" / "empty.png").touch()
    text = lines(check(str(tmp_path / "set")))
    assert "… and 36 more classes" in text
    assert "  … and 55 more" in text
    assert len(text) < 70


def test_data_with_no_usable_image_is_reported_and_not_raised(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "empty.png").touch()
    report = check(str(tmp_path))
    assert report.shape is None
    assert len(report.problems) == 2
    assert "broken: 2" in lines(report)
    with pytest.raises(UserError, match="2 images cannot be used"):
        open_data(str(tmp_path))
    with pytest.raises(UserError, match="holds no usable image"):
        open_data(str(tmp_path), skip_broken=True)


def test_contact_sheet_shows_every_class_and_repeats_itself(tmp_path: Path) -> None:
    dataset = open_data("digits")
    sheets = [np.asarray(draw_sheet(dataset, seed=seed)) for seed in (0, 0, 1)]
    assert np.array_equal(sheets[0], sheets[1])
    assert not np.array_equal(sheets[0], sheets[2])
    assert sheets[0].shape[0] > 10 * 96
    contact_sheet(dataset, tmp_path / "sheet.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "sheet.png")), sheets[0])


def test_contact_sheet_says_where_it_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(SaveError, match="was not saved: No such file or directory"):
        contact_sheet(open_data("digits"), tmp_path / "nowhere" / "sheet.png")


def test_contact_sheet_of_large_and_of_test_only_data(photo_folder: Path, tmp_path: Path, write_classes) -> None:
    large = open_data(str(photo_folder))
    assert draw_sheet(large, seed=0).width < 1500
    write_classes(tmp_path / "set" / "test")
    assert draw_sheet(open_data(str(tmp_path / "set")), seed=0).height > 3 * 96
