"""What is read of a checkpoint, and how a bad one is refused."""

import argparse
import gzip
import io
import json
import os
import pickle
import struct
import tarfile
import zipfile
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from howdeep.convert import read_weights
from howdeep.util.errors import UserError

assert_same = partial(torch.testing.assert_close, rtol=0, atol=0)
SMALL = {"conv.weight": torch.arange(6.0).reshape(2, 3), "conv.bias": torch.ones(2)}


def refusal(path: Path) -> str:
    """The line that a file is refused with; it names the file."""
    with pytest.raises(UserError) as caught:
        read_weights(path)
    line = str(caught.value)
    assert "\n" not in line
    assert path.name in line
    return line


def save(content: object, path: Path, **options) -> Path:
    torch.save(content, path, **options)
    return path


@pytest.mark.parametrize("suffix", ["pth", "th", "pt", "bin", "ckpt", "pth.tar"])
@pytest.mark.parametrize("archive", [True, False], ids=["zip", "legacy"])
def test_pytorch_files_of_both_formats_are_read(tmp_path, suffix, archive):
    path = save(SMALL, tmp_path / f"weights.{suffix}", _use_new_zipfile_serialization=archive)
    assert_same(read_weights(path), SMALL)


def test_safetensors_are_read(tmp_path):
    save_file(SMALL, tmp_path / "weights.safetensors")
    assert_same(read_weights(tmp_path / "weights.safetensors"), SMALL)


KEYS = ("state_dict", "model", "model_state_dict", "net", "network", "module", "weights", "params")
AVERAGES = ("state_dict_ema", "model_ema", "ema", "ema_model", "ema_state_dict", "params_ema", "swa_state_dict")
OTHER = {name: value + 1 for name, value in SMALL.items()}
OPTIMIZER = {"state": {0: {"momentum_buffer": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]}


@pytest.mark.parametrize("key", [*KEYS, *AVERAGES])
def test_wrapped_weights_are_unwrapped(tmp_path, key):
    content = {"epoch": 3, key: SMALL, "optimizer": OPTIMIZER}
    assert_same(read_weights(save(content, tmp_path / "a.pth")), SMALL)
    assert_same(read_weights(save({key: {"state_dict": SMALL}}, tmp_path / "b.pth")), SMALL)


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_of_two_the_trained_ones_are_taken_and_both_are_named(tmp_path, key, average):
    path = save({average: {"module": OTHER}, key: SMALL, "optimizer": OPTIMIZER}, tmp_path / "a.pth")
    told: list[str] = []
    assert_same(read_weights(path, report=told.append), SMALL)
    there = f"{average}.module"
    assert told == [f"{path}: {key!r} was taken, {there!r} left; --key {there} takes that"]
    for asked in (average, there):
        assert_same(read_weights(path, asked, told.append), OTHER)
    assert len(told) == 1


def test_an_average_that_is_alone_is_taken_and_said(tmp_path):
    told: list[str] = []
    read_weights(save({"ema": SMALL, "epoch": 1}, tmp_path / "a.pth"), report=told.append)
    assert [line.split(": ")[1] for line in told] == [
        "'ema' was taken, an average over training; there is nothing else"
    ]


def test_one_set_of_weights_needs_no_remark(tmp_path):
    content = {"state_dict": SMALL, "optimizer": OPTIMIZER, "scaler": {"scale": torch.ones(())}}
    read_weights(save(content, tmp_path / "a.pth"), report=pytest.fail)


def test_a_key_may_be_the_first_part_of_names(tmp_path):
    both = {f"online.{name}": value for name, value in SMALL.items()}
    both |= {f"ema.{name}": value for name, value in OTHER.items()}
    assert_same(read_weights(save(both, tmp_path / "a.pth"), "ema"), OTHER)


def test_the_state_of_an_optimizer_is_never_taken_for_weights(tmp_path):
    by_name = {"state": {name: {"exp_avg": value} for name, value in SMALL.items()}, "param_groups": []}
    path = save({"optimizer": by_name, "momentum": by_name, "model": SMALL}, tmp_path / "a.pth")
    assert_same(read_weights(path, report=print), SMALL)
    assert "holds no weights" in refusal(save({"optimizer": by_name}, tmp_path / "b.pth"))


def test_weights_that_are_no_tensors_are_called_what_they_are(tmp_path):
    arrays = {name: value.numpy() for name, value in SMALL.items()}
    line = refusal(save({"state_dict": arrays, "args": argparse.Namespace()}, tmp_path / "a.pth"))
    assert "an array of NumPy under 'state_dict.conv.weight', not a tensor" in line
    line = refusal(save({"model": nn.Linear(2, 2), "args": argparse.Namespace()}, tmp_path / "a.pth"))
    assert "an object of torch.nn.modules.linear.Linear under 'model', which needs code" in line


def test_a_folder_of_hugging_face_names_the_file_in_it(tmp_path):
    save_file(SMALL, tmp_path / "model.safetensors")
    assert f"did you mean {str(tmp_path / 'model.safetensors')!r}?" in refusal(tmp_path)


def test_what_parallel_training_puts_before_names_is_no_part_of_a_key(tmp_path):
    named = {f"module.teacher.{name}": value for name, value in SMALL.items()}
    assert_same(read_weights(save(named, tmp_path / "a.pth"), "teacher"), SMALL)


@pytest.mark.parametrize("archive", [True, False], ids=["zip", "legacy"])
def test_a_later_protocol_of_pickle_is_called_what_it_is(tmp_path, archive):
    path = save(SMALL, tmp_path / "a.pth", pickle_protocol=4, _use_new_zipfile_serialization=archive)
    assert "written with pickle protocol 4" in refusal(path)


def test_the_first_format_of_pytorch_is_called_what_it_is(tmp_path):
    with tarfile.open(tmp_path / "a.pth.tar", "w") as archive:
        for name in ("storages", "tensors", "pickle"):
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    assert "PyTorch's first format" in refusal(tmp_path / "a.pth.tar")


def test_an_unknown_key_is_answered_with_the_nearest(tmp_path):
    path = save({"state_dict": SMALL, "state_dict_ema": OTHER}, tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"unknown key of .*a\.pth 'state_dict_emma'; did you mean state_dict_ema"):
        read_weights(path, "state_dict_emma")


def test_weights_in_several_dictionaries_of_unknown_names_are_one_network(tmp_path):
    parts = {"backbone": {"conv.weight": torch.ones(2)}, "classifier": {"weight": torch.ones(1)}}
    assert read_weights(save(parts, tmp_path / "a.pth")).keys() == {"backbone.conv.weight", "classifier.weight"}


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_prefixes_of_wrapping_modules_are_removed(tmp_path, prefix):
    prefixed = {prefix + name: value for name, value in SMALL.items()}
    assert_same(read_weights(save(prefixed, tmp_path / "a.pth")), SMALL)


def test_prefixes_are_whole_components(tmp_path):
    named = {"submodule.weight": torch.ones(1), "layer1._orig_mod.0.weight": torch.ones(1)}
    assert read_weights(save(named, tmp_path / "a.pth")).keys() == {"submodule.weight", "layer1.0.weight"}


def test_parameters_become_tensors_without_gradient_and_other_entries_are_passed_over(tmp_path):
    content = {"weight": nn.Parameter(torch.ones(2)), "epoch": 4, 7: torch.ones(1)}
    weights = read_weights(save(content, tmp_path / "a.pth"))
    assert weights.keys() == {"weight"}
    assert not weights["weight"].requires_grad


def test_one_name_twice_is_refused(tmp_path):
    line = refusal(save({"weight": torch.ones(1), "module.weight": torch.zeros(1)}, tmp_path / "a.pth"))
    assert "'weight' twice" in line


def test_missing_file_is_answered_with_the_nearest_name(tmp_path):
    save(SMALL, tmp_path / "resnet56.pth")
    assert "resnet56.pth" in refusal(tmp_path / "resnet65.pth")


def test_missing_folder_is_named(tmp_path):
    assert f"no folder {str(tmp_path / 'nowhere')!r}" in refusal(tmp_path / "nowhere" / "a.pth")


def test_folder_is_refused(tmp_path):
    assert "is a folder" in refusal(tmp_path)


def test_pipe_is_refused_without_waiting_for_it(tmp_path):
    os.mkfifo(tmp_path / "a.pth")
    assert "not a regular file" in refusal(tmp_path / "a.pth")


def test_name_too_long_for_the_file_system_is_refused(tmp_path):
    assert "too long" in refusal(tmp_path / ("a" * 400 + ".pth"))


class Malicious:
    def __init__(self, evidence: Path) -> None:
        self.evidence = evidence

    def __reduce__(self) -> tuple:
        return Path.touch, (self.evidence,)


@pytest.mark.parametrize("form", ["zip", "legacy", "protocol 2", "protocol 4"])
def test_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path, form):
    evidence, path = tmp_path / "evidence", tmp_path / "evil.pth"
    if form.startswith("protocol"):
        path.write_bytes(pickle.dumps({"weight": Malicious(evidence)}, protocol=int(form[-1])))
    else:
        save({"weight": Malicious(evidence)}, path, _use_new_zipfile_serialization=form == "zip")
    assert "wants to run code" in refusal(path)
    assert not evidence.exists()
    if form in ("protocol 2", "protocol 4"):
        pickle.loads(path.read_bytes())
        assert evidence.exists(), "the file is harmless, so this test shows nothing"


def test_whole_pickled_model_is_refused_with_the_class_it_names(tmp_path):
    line = refusal(save(nn.Linear(2, 2), tmp_path / "model.pth"))
    assert "object of torch.nn.modules.linear.Linear, which needs code to be read" in line


@pytest.mark.parametrize("archive", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.99])
def test_truncated_pytorch_file_is_refused(tmp_path, archive, share):
    whole = save(SMALL, tmp_path / "a.pth", _use_new_zipfile_serialization=archive).read_bytes()
    (tmp_path / "a.pth").write_bytes(whole[: int(share * len(whole))])
    assert "truncated or damaged" in refusal(tmp_path / "a.pth")


FOUND = {
    b"hello world": "no checkpoint",
    b"P\\q\n.": "no checkpoint",  # a name with a wrong escape, were it a pickle
    b"\n<!DOCTYPE html><html>404</html>": "HTML",
    b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>": "XML",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n": "Git LFS",
    b'{"weight_map": {}}': "JSON",
    gzip.compress(b"weights"): "gzip",
    b"\x89HDF\r\n\x1a\n": "HDF5",
}


@pytest.mark.parametrize(("content", "what"), FOUND.items(), ids=FOUND.values())
@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_what_is_no_weights_is_called_what_it_is_whatever_its_name(tmp_path, content, what, name):
    (tmp_path / name).write_bytes(content)
    assert what in refusal(tmp_path / name)


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_an_archive_around_weights_is_said_to_need_unpacking(tmp_path, kind):
    save(SMALL, tmp_path / "inside.pth")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "inside.pth", "inside.pth")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(tmp_path / "inside.pth", "inside.pth")
    assert "archive of 'inside.pth'; unpack it first" in refusal(tmp_path / f"a.{kind}")


@pytest.mark.parametrize("name", ["A.PTH", "weights", "weights.h5", "weights.safetensors", "model.bin"])
@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_content_says_how_a_file_is_read_not_its_name(tmp_path, name, kind):
    path = tmp_path / name
    if kind == "safetensors":
        save_file(SMALL, path)
    else:
        save(SMALL, path, _use_new_zipfile_serialization=kind == "zip")
    assert_same(read_weights(path), SMALL)


@settings(max_examples=150, deadline=None)
@given(archive=st.booleans(), damage=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=3))
def test_damaged_bytes_never_end_in_anything_but_one_line(tmp_path_factory, archive, damage):
    buffer = io.BytesIO()
    torch.save(SMALL, buffer, _use_new_zipfile_serialization=archive)
    content = bytearray(buffer.getvalue())
    for place, value in damage:
        content[int(place * len(content))] = value
    path = tmp_path_factory.getbasetemp() / "damaged.pth"
    path.write_bytes(content)
    try:
        read_weights(path)
    except UserError as error:
        lines = str(error).splitlines()
    else:
        lines = ["a bit of the data, which nothing can notice"]
    assert len(lines) == 1


def with_header(path: Path, header: dict, length: int | None = None, data: bytes = bytes(8)) -> Path:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


HEADER = {"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}


def test_the_header_that_the_next_tests_bend_is_valid(tmp_path):
    assert read_weights(with_header(tmp_path / "a.safetensors", HEADER))["w"].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("length", [0, 10, 10_000, 2**40, 2**64 - 1])
def test_safetensors_header_that_lies_about_its_size_is_refused(tmp_path, length):
    assert "damaged" in refusal(with_header(tmp_path / "a.safetensors", HEADER, length))


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [1000], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [1000], "data_offsets": [0, 4000]},
        {"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]},
        {"dtype": "F99", "shape": [2], "data_offsets": [0, 8]},
    ],
)
def test_safetensors_tensor_that_lies_about_its_size_is_refused(tmp_path, entry):
    assert "damaged" in refusal(with_header(tmp_path / "a.safetensors", {"w": entry}))


@pytest.mark.parametrize("length", [0, 4, 8, 40])
def test_truncated_safetensors_are_refused(tmp_path, length):
    save_file(SMALL, tmp_path / "a.safetensors")
    (tmp_path / "a.safetensors").write_bytes((tmp_path / "a.safetensors").read_bytes()[:length])
    assert "damaged" in refusal(tmp_path / "a.safetensors")


@pytest.mark.parametrize("entry", ["../outside", "archive/../../outside", "/etc/outside", "..\\outside"])
def test_zip_that_reaches_outside_is_refused(tmp_path, entry):
    path = save(SMALL, tmp_path / "a.pth")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(entry, "x")
    assert repr(entry) in refusal(path)


def test_tar_that_reaches_outside_is_refused(tmp_path):
    with tarfile.open(tmp_path / "a.pth.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("../outside"), io.BytesIO())
    assert "'../outside'" in refusal(tmp_path / "a.pth.tar")


def test_torchscript_program_is_refused(tmp_path):
    path = save(SMALL, tmp_path / "a.pt")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("a/constants.pkl", "x")
    assert "TorchScript" in refusal(path)


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [torch.ones(2)], torch.ones(2), {"state_dict": {}}, 5])
def test_file_without_named_tensors_is_refused(tmp_path, content):
    assert "holds no weights" in refusal(save(content, tmp_path / "a.pth"))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_first_weight_that_is_not_finite_is_named(tmp_path, value):
    content = {"good": torch.ones(2), "bad": torch.tensor([1.0, value]), "worse": torch.tensor([value])}
    assert refusal(save(content, tmp_path / "a.pth")).endswith("'bad'")


@pytest.mark.parametrize(
    "tensor",
    [torch.ones(2).to_sparse(), torch.ones(2, dtype=torch.complex64), torch.ones(2, device="meta")],
    ids=["sparse", "complex", "meta"],
)
def test_tensors_that_are_no_plain_numbers_are_refused(tmp_path, tensor):
    assert "form that is not read" in refusal(save({"w": tensor}, tmp_path / "a.pth"))


def test_tensor_that_claims_more_than_it_stores_is_refused(tmp_path):
    huge = torch.ones(1).expand(10**7, 10**7)
    assert "claims more values" in refusal(save({"w": huge}, tmp_path / "a.pth"))
