import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from howdeep.data import open_data
from howdeep.util.errors import UserError


def features(names: list[str]) -> bytes:
    declared = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": names}}
    return json.dumps({"info": {"features": declared}}).encode()


def test_class_names_come_from_the_metadata(tmp_path: Path, write_parquet) -> None:
    write_parquet(tmp_path / "set" / "train.parquet", features(["zero", "one", "two"]))
    assert open_data(str(tmp_path / "set")).classes == ("zero", "one", "two")


def test_without_metadata_columns_are_found_by_type_and_classes_by_value(tmp_path: Path, write_parquet) -> None:
    path = write_parquet(tmp_path / "set.parquet", classes="257", labels=pa.string())
    dataset = open_data(str(path))
    assert dataset.classes == ("2", "5", "7")
    assert torch.cat([dataset.split(name).labels for name in ("train", "val", "test")]).bincount().tolist() == [10] * 3


def test_pixels_are_those_of_the_files(tmp_path: Path, write_parquet, digit_images) -> None:
    dataset = open_data(str(write_parquet(tmp_path / "test.parquet", features(["zero", "one", "two"]))))
    images, labels = digit_images
    rows = [row for digit in (0, 1, 2) for row in [r for r, label in enumerate(labels) if label == digit][:10]]
    expected = torch.stack([torch.tensor(list(images[row].tobytes()), dtype=torch.uint8) for row in rows])
    assert torch.equal(dataset.split("test").pixels(torch.arange(30)).reshape(30, 64), expected)
    assert dataset.split("test").names[3] == "test.parquet#3"
    assert dataset.train is None


def test_shards_of_a_split_are_joined_in_the_order_of_their_names(tmp_path: Path, write_parquet) -> None:
    for shard in (1, 0):
        write_parquet(tmp_path / "set" / "data" / f"train-0000{shard}-of-00002.parquet", skip=10 * shard)
    write_parquet(tmp_path / "set" / "data" / "validation-00000-of-00001.parquet", skip=20)
    write_parquet(tmp_path / "set" / "data" / "test-00000-of-00001.parquet", skip=30)
    dataset = open_data(str(tmp_path / "set"))
    assert [len(dataset.split(name)) for name in ("train", "val", "test")] == [60, 30, 30]
    assert dataset.split("train").names[0] == "train-00000-of-00002.parquet#0"
    assert dataset.split("train").names[30] == "train-00001-of-00002.parquet#0"


def test_file_beside_named_splits_is_left_out_with_a_note(tmp_path: Path, write_parquet) -> None:
    write_parquet(tmp_path / "set" / "train.parquet")
    write_parquet(tmp_path / "set" / "unlabelled.parquet")
    assert "left out unlabelled.parquet: its name is that of no split" in open_data(str(tmp_path / "set")).notes


def test_class_names_that_differ_between_splits_are_refused(tmp_path: Path, write_parquet) -> None:
    write_parquet(tmp_path / "set" / "train.parquet", features(["zero", "one", "two"]))
    write_parquet(tmp_path / "set" / "test.parquet", features(["zero", "one", "three"]))
    with pytest.raises(UserError, match="'three' is in test but not in train"):
        open_data(str(tmp_path / "set"))
    write_parquet(tmp_path / "other" / "train.parquet", classes="345")
    write_parquet(tmp_path / "other" / "test.parquet", classes="346")
    with pytest.raises(UserError, match="test has labels without a class: 6"):
        open_data(str(tmp_path / "other"))


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + b"\xff" * 64 + b"PAR1", b"no parquet at all"])
def test_damaged_parquet_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "train.parquet"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"train\.parquet is not a readable Parquet file") as caught:
        open_data(str(path))
    assert "\n" not in str(caught.value)


def test_truncated_parquet_with_a_whole_footer_is_refused(tmp_path: Path, write_parquet) -> None:
    path = write_parquet(tmp_path / "train.parquet", each=40)
    content = bytearray(path.read_bytes())
    content[100:2000] = b"\xff" * 1900
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"train\.parquet is not a readable Parquet file"):
        open_data(str(path))


@pytest.mark.parametrize(
    ("table", "line"),
    [
        (pa.table({"label": [0, 1]}), "has no image column"),
        (
            pa.table({"image": [b"x", b"y"], "price": [0.5, 1.5]}),
            "has no label column; its columns are image, price",
        ),
        (pa.table({"image": [b"x", b"y"], "label": [None, None]}), "no image has a label"),
        (pa.table({"image": [b"x", b"y"], "label": [[0], [0, 1]]}), "labels are of type list"),
        (pa.table({"image": [b"x", b"y"], "label": [0.5, 1.0]}), "labels are of type float"),
    ],
)
def test_tables_of_another_kind_are_refused_by_name(tmp_path: Path, table: pa.Table, line: str) -> None:
    pq.write_table(table, tmp_path / "train.parquet")
    with pytest.raises(UserError, match=line):
        open_data(str(tmp_path / "train.parquet"))


def test_rows_without_bytes_are_reported_and_their_paths_are_not_opened(tmp_path: Path, write_parquet) -> None:
    path = write_parquet(tmp_path / "train.parquet")
    table = pq.read_table(path)
    images = table.column("image").to_pylist()
    images[4] = {"bytes": None, "path": str(tmp_path / "pngs-train" / "0" / "0000.png")}
    pq.write_table(table.set_column(0, "image", pa.array(images)), path)
    with pytest.raises(UserError, match=r"train\.parquet#4 \(empty: the row holds no bytes\)"):
        open_data(str(path))
