from pathlib import Path

import pytest
from datasets import config

from howdeep.data import open_data
from howdeep.util.errors import UserError


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the user's cache out of the tests, and the network out as well."""
    monkeypatch.setattr(config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(config, "HF_HUB_OFFLINE", True)


@pytest.mark.usefixtures("hub_cache")
def test_hub_set_gives_the_same_images_as_its_parquet_files(
    tmp_path: Path, write_parquet, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_parquet(tmp_path / "acme" / "tiny" / "data" / "train-00000-of-00001.parquet", each=20)
    write_parquet(tmp_path / "acme" / "tiny" / "data" / "test-00000-of-00001.parquet", skip=20)
    monkeypatch.chdir(tmp_path)
    hub, local = open_data("hf:acme/tiny"), open_data(str(tmp_path / "acme" / "tiny"))
    assert hub.name == "acme/tiny"
    assert hub.classes == local.classes == ("0", "1", "2")
    for name in ("train", "val", "test"):
        ours, theirs = local.split(name), hub.split(name)
        every = range(len(ours))
        assert (ours.pixels(ours.labels.new_tensor(every)) == theirs.pixels(ours.labels.new_tensor(every))).all()
    assert hub.split("test").names[2] == "test#2"


@pytest.mark.usefixtures("hub_cache")
def test_hub_set_of_image_files_is_read_through_their_paths(
    tmp_path: Path, write_classes, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_classes(tmp_path / "acme" / "files" / "train", each=20)
    monkeypatch.chdir(tmp_path)
    dataset = open_data("hf:acme/files")
    assert dataset.classes == ("0", "1", "2")
    assert [len(dataset.split(name)) for name in ("train", "val", "test")] == [48, 6, 6]
    assert dataset.split("train").pixels(dataset.split("train").labels[:1]).shape == (1, 1, 8, 8)


@pytest.mark.usefixtures("hub_cache")
def test_hub_set_that_cannot_be_reached_is_one_line() -> None:
    with pytest.raises(UserError, match="hf:acme/nosuch cannot be loaded: ") as caught:
        open_data("hf:acme/nosuch")
    assert "\n" not in str(caught.value)
