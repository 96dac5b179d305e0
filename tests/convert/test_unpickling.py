"""What trainers write beside the weights is set aside, what would act is refused, and nothing of either runs."""

import argparse
import collections
import datetime
import enum
import io
import pickle
import sys
import types
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from timm.utils.checkpoint_saver import CheckpointSaver
from torch._utils import _rebuild_tensor_v2

from howdeep.convert import read_weights
from howdeep.convert import unpickling as inert
from howdeep.util.errors import UserError

assert_same = partial(torch.testing.assert_close, rtol=0, atol=0)
SMALL = {"conv.weight": torch.arange(6.0).reshape(2, 3), "conv.bias": torch.ones(2)}


class Options(dict):
    """As yacs, EasyDict and Lightning's AttributeDict: a dictionary with attributes."""


class Phase(enum.Enum):
    """As Lightning's states."""

    FITTING = "fit"


class State:
    """As a trainer's own object, which holds tensors too."""

    def __init__(self):
        self.options, self.average = Options(rate=0.1), torch.ones(2)


def beside() -> dict:
    options = Options(rate=0.1)
    options.__dict__["nested"] = Options(depth=3)
    return {
        "args": argparse.Namespace(model="resnet18", out=Path("here")),
        "space": types.SimpleNamespace(rate=0.1),
        "best": np.float64(91.2),
        "history": np.ones(3),
        "mixed": np.array([1, "a", None], dtype=object),
        "random": np.random.RandomState(0),
        "log": collections.defaultdict(list, {"loss": [1.0]}),
        "recent": collections.deque([1.0, 2.0]),
        "when": datetime.datetime(2024, 1, 1),
        "phase": Phase.FITTING,
        "seen": frozenset([1]),
        "hyper_parameters": options,
        "callbacks": {Phase: State(), "early": State()},
    }


@pytest.mark.parametrize("archive", [True, False], ids=["zip", "legacy"])
def test_what_trainers_write_beside_the_weights_is_set_aside(tmp_path, archive):
    torch.save({"state_dict": SMALL, **beside()}, tmp_path / "a.pth", _use_new_zipfile_serialization=archive)
    assert_same(read_weights(tmp_path / "a.pth"), SMALL)


def test_objects_of_others_hold_nothing(tmp_path):
    torch.save(beside(), tmp_path / "a.pth")
    content = inert.load(tmp_path / "a.pth")
    assert isinstance(content, dict)
    assert isinstance(content["args"], inert.Inert)
    assert not hasattr(content["args"], "model")
    assert isinstance(content["callbacks"]["early"], inert.Inert)
    assert not any(isinstance(allowed, tuple) for allowed in torch.serialization.get_safe_globals())


def test_a_checkpoint_of_timms_own_trainer_is_read(tmp_path):
    model = timm.create_model("test_resnet", num_classes=2)
    options, optimizer = argparse.Namespace(model="test_resnet"), torch.optim.SGD(model.parameters(), 0.1, 0.9)
    saver = CheckpointSaver(model, optimizer, args=options, checkpoint_dir=str(tmp_path), recovery_dir=str(tmp_path))
    saver.save_checkpoint(0, metric=50.0)
    assert_same(read_weights(tmp_path / "model_best.pth.tar"), dict(model.state_dict()))


def text(value: str) -> bytes:
    return pickle.BINUNICODE + len(value.encode()).to_bytes(4, "little") + value.encode()


def call(module: str, name: str, *arguments: bytes) -> bytes:
    return f"c{module}\n{name}\n".encode() + pickle.MARK + b"".join(arguments) + pickle.TUPLE + pickle.REDUCE


def new(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode() + pickle.EMPTY_TUPLE + pickle.NEWOBJ


def pairs(**values: bytes) -> bytes:
    return (
        pickle.EMPTY_DICT
        + pickle.MARK
        + b"".join(text(name) + value for name, value in values.items())
        + pickle.SETITEMS
    )


def slots(state: bytes) -> bytes:
    return pickle.NONE + state + pickle.TUPLE2 + pickle.BUILD


def touching(file: str) -> str:
    return f"__import__('pathlib').Path({file!r}).touch()"


SYSTEM = "cos\nsystem\n"
TOUCH = "cpathlib\nPath.touch\n"
RUNS: dict[str, Callable[[str], bytes]] = {
    "os.system": lambda file: call("os", "system", text(f"touch {file}")),
    "posix.system": lambda file: call("posix", "system", text(f"touch {file}")),
    "subprocess": lambda file: call("subprocess", "getoutput", text(f"touch {file}")),
    "exec": lambda file: call("builtins", "exec", text(touching(file))),
    "eval of Python 2": lambda file: call("__builtin__", "eval", text(touching(file))),
    "getattr": lambda file: (
        call("builtins", "getattr", call("pathlib", "Path", text(file)), text("touch"))
        + pickle.EMPTY_TUPLE
        + pickle.REDUCE
    ),
    "a module that nobody lists": lambda file: call("mailbox", "Maildir", text(file)),
    "one inside another": lambda file: call("builtins", "str", call("os", "system", text(f"touch {file}"))),
    "state of an object": lambda file: (
        new("types", "SimpleNamespace")
        + pairs(__setstate__=SYSTEM.encode())
        + pickle.BUILD
        + text(f"touch {file}")
        + pickle.BUILD
    ),
}
"""Pickles that leave a file behind where they run."""
BENDS: dict[str, bytes] = {
    "slots of a stand-in": new("argparse", "Namespace") + slots(pairs(__class__=SYSTEM.encode())),
    "attributes of a stand-in's class": b"cargparse\nNamespace\n" + slots(pairs(__setstate__=TOUCH.encode())),
    "attributes of a tensor's class": b"ctorch\nTensor\n" + slots(pairs(detach=TOUCH.encode())),
    "attributes of a function": b"ctorch._utils\n_rebuild_tensor_v2\n" + slots(pairs(__defaults__=pickle.NONE)),
    "a method called as a class": b"cargparse\nNamespace.__init__\n" + pickle.EMPTY_TUPLE + pickle.NEWOBJ,
    "a type rebuilt from a stand-in": call(
        "torch._tensor",
        "_rebuild_from_type_v2",
        TOUCH.encode(),
        b"cpathlib\nPath\n",
        pickle.EMPTY_TUPLE,
        pairs(a=pickle.NONE),
    ),
    "old opcode for an instance": pickle.MARK + b"S'x'\nios\nsystem\n",
    "protocol 4": b"\x8c\x02os\x8c\x06system\x93",
    "an extension": b"\x82\x01",
}
"""Pickles that try to change what is there already."""


def planted(path: Path, evil: bytes, *, archive: bool) -> Path:
    """Put an object into a checkpoint, beside weights, as the pickle that it is."""
    buffer = io.BytesIO()
    torch.save({"state_dict": SMALL, "evil": "HERE"}, buffer, _use_new_zipfile_serialization=archive)
    here = text("HERE")
    if not archive:
        assert buffer.getvalue().count(here) == 1
        path.write_bytes(buffer.getvalue().replace(here, evil))
        return path
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(path, "w") as new_:
        for name in old.namelist():
            content = old.read(name)
            new_.writestr(name, content.replace(here, evil) if name.endswith("data.pkl") else content)
    return path


def read_or_refused(path: Path) -> str:
    """Return the line of the refusal; empty where the weights beside were read."""
    try:
        assert_same(read_weights(path), SMALL)
    except UserError as error:
        line = str(error)
    else:
        return ""
    assert "\n" not in line
    assert path.name in line
    return line


@pytest.mark.parametrize("archive", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("attack", RUNS)
def test_nothing_in_a_checkpoint_runs(tmp_path, attack, archive):
    evidence = tmp_path / "evidence"
    evil = RUNS[attack](str(evidence))
    line = read_or_refused(planted(tmp_path / "a.pth", evil, archive=archive))
    assert not evidence.exists()
    assert "wants to run code" in line or attack == "a module that nobody lists"
    if attack != "state of an object":
        pickle.loads(b"\x80\x02" + evil + b".")
        assert evidence.exists(), "the pickle is harmless, so this test shows nothing"


@pytest.mark.parametrize("archive", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("attack", BENDS)
def test_nothing_in_a_checkpoint_changes_what_is_there(tmp_path, attack, archive):
    before = {name: vars(kind).copy() for name, kind in (("inert", inert.Inert), ("tensor", torch.Tensor))}
    defaults = _rebuild_tensor_v2.__defaults__
    read_or_refused(planted(tmp_path / "a.pth", BENDS[attack], archive=archive))
    assert {name: vars(kind) for name, kind in (("inert", inert.Inert), ("tensor", torch.Tensor))} == before
    assert _rebuild_tensor_v2.__defaults__ == defaults
    assert not hasattr(argparse.Namespace, "__setstate__")


class Bent(collections.OrderedDict):
    """A dictionary whose pickle sets what looks like methods on it."""

    def __reduce__(self):
        return collections.OrderedDict, (), {"items": State, "keys": State, "get": State}, None, iter(SMALL.items())


def test_methods_that_a_dictionary_carries_with_it_are_not_asked(tmp_path):
    torch.save({"model": Bent(SMALL)}, tmp_path / "a.pth")
    assert_same(read_weights(tmp_path / "a.pth"), SMALL)


def test_no_module_is_imported_by_a_name_in_a_file(tmp_path):
    assert "this" not in sys.modules
    assert read_or_refused(planted(tmp_path / "a.pth", call("this", "Zen"), archive=True)) == ""
    assert "this" not in sys.modules


def test_a_dictionary_that_holds_itself_is_read(tmp_path):
    content: dict = {"state_dict": SMALL}
    content["self"] = content
    torch.save(content, tmp_path / "a.pth")
    assert_same(read_weights(tmp_path / "a.pth"), SMALL)


def test_a_file_of_endless_names_is_refused(tmp_path):
    names = b"".join(call("module", f"Name{number}") for number in range(110))
    evil = pickle.MARK + names + pickle.TUPLE
    assert "refused" in read_or_refused(planted(tmp_path / "a.pth", evil, archive=True))
