"""Checkpoints are whole or not there."""

import json
import os
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.oracles import untimed

from howdeep.runs import checkpoints
from howdeep.runs.checkpoints import DamagedError, list_checkpoints, load, newest, save
from howdeep.util.errors import UserError
from howdeep.util.files import SaveError, write_whole

TENSORS = {
    "weights": {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor(7)},
    "momentum": {"a": torch.randn(4, 3, 3, 3).contiguous(memory_format=torch.channels_last)},
}


def write(folder: Path, *steps: int) -> list[Path]:
    return [save(folder, step, tensors=TENSORS, state={"step": step, "x": 0.1}) for step in steps]


def test_what_was_saved_is_read_back_bit_for_bit(tmp_path: Path) -> None:
    (place,) = write(tmp_path / "new/folder", 12)
    found = load(place)
    assert (found.path, found.step, found.state) == (place, 12, {"step": 12, "x": 0.1})
    for name, group in TENSORS.items():
        read = found.tensors(name)
        assert read.keys() == group.keys()
        assert all(torch.equal(read[key], group[key]) and read[key].dtype == group[key].dtype for key in group)


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    write(tmp_path, 1, 9, 10, 11)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["step-00000010", "step-00000011"]
    assert list_checkpoints(tmp_path) == sorted(tmp_path.iterdir())


def test_a_step_beyond_the_padding_is_still_the_newest(tmp_path: Path) -> None:
    write(tmp_path, 99_999_999, 100_000_000)
    found = newest(tmp_path, pytest.fail)
    assert found is not None
    assert found.step == 100_000_000


def test_without_checkpoints_there_is_no_newest(tmp_path: Path) -> None:
    assert newest(tmp_path, pytest.fail) is None
    assert newest(tmp_path / "missing", pytest.fail) is None


def test_partial_folders_are_not_read_and_are_cleaned_away(tmp_path: Path) -> None:
    write(tmp_path, 3)
    (tmp_path / ".partial-00000004").mkdir()
    (tmp_path / ".partial-00000004/weights.safetensors").write_bytes(b"half")
    found = newest(tmp_path, pytest.fail)
    assert found is not None
    assert found.step == 3
    write(tmp_path, 5)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["step-00000003", "step-00000005"]


def test_a_damaged_one_is_passed_over_with_one_line(tmp_path: Path) -> None:
    _, last = write(tmp_path, 1, 2)
    os.truncate(last / "weights.safetensors", 10)
    said: list[str] = []
    found = newest(tmp_path, said.append)
    assert found is not None
    assert found.step == 1
    assert said == [
        f"damaged checkpoint {last}: weights.safetensors has 10 bytes and is not the file that was written;"
        " the one before it is used"
    ]


def test_when_all_are_damaged_nothing_is_guessed(tmp_path: Path) -> None:
    for place in write(tmp_path, 1, 2):
        (place / "state.json").unlink()
    with pytest.raises(UserError, match=r"every checkpoint in .* is damaged"):
        newest(tmp_path, lambda line: None)


@untimed
@given(data=st.data())
def test_no_flipped_bit_goes_unnoticed(data, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A bit of a tensor or of the state is always found; one of the manifest is found or changes nothing."""
    (place,) = write(tmp_path_factory.mktemp("flip"), 4)
    path = data.draw(st.sampled_from(sorted(place.iterdir())))
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    try:
        found = load(place)
    except DamagedError:
        return
    assert path.name == "manifest.json"
    assert (found.step, found.state) == (4, {"step": 4, "x": 0.1})


@pytest.mark.parametrize("fails", ["mkdir", "write", "rename"])
def test_a_save_that_fails_leaves_the_ones_before_untouched(fails: str, tmp_path: Path, monkeypatch) -> None:
    good = write(tmp_path, 1, 2)
    content = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def fail(*given: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        if fails == "write":
            patched.setattr(checkpoints, "write_flushed", fail)
        else:
            patched.setattr(Path, fails, fail)
        with pytest.raises(SaveError) as error:
            write(tmp_path, 3)
    assert str(error.value) == (
        f"step 3 was not saved: No space left on device ({tmp_path}); the last good checkpoint is {good[-1]}"
    )
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == content
    assert list_checkpoints(tmp_path) == good


def test_every_file_is_flushed_before_the_folder_gets_its_name(tmp_path: Path, monkeypatch) -> None:
    happened: list[str] = []
    flush, rename = os.fsync, Path.rename
    monkeypatch.setattr(os, "fsync", lambda descriptor: (happened.append("flush"), flush(descriptor))[1])
    monkeypatch.setattr(Path, "rename", lambda self, to: (happened.append("rename"), rename(self, to))[1])
    write(tmp_path, 1)
    assert happened == ["flush"] * 4 + ["rename", "flush"]


def test_the_manifest_lists_every_other_file(tmp_path: Path) -> None:
    (place,) = write(tmp_path, 1)
    manifest = json.loads((place / "manifest.json").read_bytes())
    assert {*manifest["files"], "manifest.json"} == {path.name for path in place.iterdir()}


def test_a_file_is_whole_or_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_whole(tmp_path / "record.json", b"old")

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        with pytest.raises(SaveError, match=r"record.json was not saved: No space left on device"):
            write_whole(tmp_path / "record.json", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]
    assert (tmp_path / "record.json").read_bytes() == b"old"
    write_whole(tmp_path / "record.json", b"new")
    assert (tmp_path / "record.json").read_bytes() == b"new"
