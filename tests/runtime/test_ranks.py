"""Under ``torchrun`` a command divides its work and speaks once, or is refused in one line; else it runs alone."""

import json
import os
import subprocess
import sys
from multiprocessing.queues import SimpleQueue
from pathlib import Path

import pytest
import torch
from tests.processes import FORKS, Watch, fork, ranks, start_ranks

from howdeep import cli
from howdeep.commands import COMMANDS, SHARED
from howdeep.runtime.device import pick
from howdeep.runtime.ranks import Ranks, complains_first, joined, this_process
from howdeep.util.errors import UserError

TORCHRUN = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch):
    """Set the environment of a process of a torchrun."""

    def change(**values: str | None) -> None:
        for name, value in {**TORCHRUN, **values}.items():
            monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)

    return change


@pytest.mark.parametrize("name", TORCHRUN)
def test_a_process_is_one_of_several_only_where_the_environment_is_whole(name: str, environment) -> None:
    environment()
    assert this_process() == Ranks(1, 2, 1)
    environment(**{name: None})
    assert this_process() == Ranks()


@pytest.mark.parametrize(("name", "value"), [("WORLD_SIZE", "1"), ("RANK", "none"), ("WORLD_SIZE", ""), ("RANK", "-1")])
def test_a_group_of_one_and_an_environment_that_makes_no_sense_run_alone(name: str, value: str, environment) -> None:
    environment(**{name: value})
    assert this_process().alone


def test_only_known_commands_share() -> None:
    assert set(SHARED) <= set(COMMANDS)


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in SHARED])
def test_what_does_not_share_is_refused_in_one_line_that_is_said_once(name: str, environment, capsys) -> None:
    for rank in ("0", "1"):
        environment(RANK=rank)
        assert cli.run([name, "--no-such-option"]) == 2
    told = "runs in one process, not in 2: start it without torchrun (processes share train, lesion, paths, probe)"
    assert capsys.readouterr() == ("", f"howdeep: {name} {told}\n")


@pytest.mark.parametrize("asked", [["--version"], [], ["train", "--help"], ["train", "--no"], ["tran"]])
def test_help_and_mistakes_in_what_was_typed_are_said_once(asked: list[str], environment, capsys) -> None:
    alone = (environment(WORLD_SIZE=None), cli.run(asked), capsys.readouterr())
    both = [(environment(RANK=rank), cli.run(asked))[1] for rank in ("0", "1")]
    assert both == [alone[1]] * 2
    assert capsys.readouterr() == alone[2]


def test_every_process_has_the_device_of_its_own_number(environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "empty", lambda *shape, device: None)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **_: torch.device("cuda"))
    environment(LOCAL_RANK="1")
    assert pick("auto") == pick("cuda") == torch.device("cuda", 1)
    with pytest.raises(UserError, match="device 'cuda:0' is not allowed for 2 processes: each has its own; name cuda"):
        pick("cuda:0")
    assert pick("cpu") == torch.device("cpu")
    environment(WORLD_SIZE=None)
    assert pick("cuda") == torch.device("cuda")
    assert pick("cuda:1") == torch.device("cuda", 1)


def torchrun(*asked: str, environment: dict[str, str] | None = None) -> tuple[int, str, str]:
    """Run a command in two processes; return the status, and what the command itself printed."""
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "howdeep"]
    found = subprocess.run(
        [*start, *asked], capture_output=True, text=True, timeout=200, env={**os.environ, **(environment or {})}
    )
    said = [line for line in found.stderr.splitlines() if "howdeep: " in line]
    assert 'File "' not in "\n".join(line for line in found.stderr.splitlines() if "howdeep/" in line), found.stderr
    return found.returncode, found.stdout, "\n".join(said)


SMALL = ("--data", "digits", "--limit", "40", "--device", "cpu")
LESION = ("lesion", *SMALL, "--batch-size", "10")


@pytest.mark.slow
def test_torchrun_evaluate_is_refused_once(tmp_path: Path) -> None:
    """Adds torchrun itself to what is tested above with its environment."""
    status, out, said = torchrun("evaluate", str(tmp_path), *SMALL)
    assert (status, out) == (1, "")
    assert said.count("howdeep: evaluate runs in one process") == 1


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("trained") / "run"
    train = ["train", "cifar_resnet8", "--epochs", "1", "--precision", "fp32", "--out", str(place)]
    assert cli.run([*train, *SMALL]) == 0
    return place


def test_two_processes_of_a_lesion_print_and_write_once(run: Path, tmp_path: Path) -> None:
    found = tmp_path / "found.json"
    both = start_ranks([*LESION, str(run), "--json", str(found)], tmp_path, [Watch(), Watch()])
    (first, told), (second, silent) = (running.finish() for running in both)
    assert (first, second, silent) == (0, 0, "")
    _written_once(told, found)


def test_two_processes_of_a_probe_share_what_they_read_and_write_once(run: Path, tmp_path: Path) -> None:
    found, asked = tmp_path / "found.json", ["probe", *SMALL, "--batch-size", "10", str(run), "--json"]
    both = start_ranks([*asked, str(found)], tmp_path, [Watch(), Watch()])
    (first, told), (second, silent) = (running.finish() for running in both)
    assert (first, second, silent) == (0, 0, "")
    assert told.count("lowest error of the nearest neighbour") == 1
    errors = [depth["fitted"]["error_percent"] for depth in json.loads(found.read_text())["depths"]]
    assert cli.run([*asked, str(tmp_path / "alone.txt"), "--threads", "1"]) == 0
    alone = json.loads((tmp_path / "alone.txt").read_text())
    assert errors == [depth["fitted"]["error_percent"] for depth in alone["depths"]]
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".txt"] == ["found.json"]


@pytest.mark.slow
def test_torchrun_lesion_prints_and_writes_once(run: Path, tmp_path: Path) -> None:
    """Adds torchrun itself."""
    found = tmp_path / "found.json"
    status, out, said = torchrun(*LESION, str(run), "--json", str(found))
    assert (status, said) == (0, "")
    _written_once(out, found)


def _written_once(out: str, found: Path) -> None:
    assert out.count("unit 1") == 1
    assert len(json.loads(found.read_text())["units"]) == 3
    assert [path.name for path in found.parent.iterdir() if path.suffix != ".txt"] == ["found.json"]


@pytest.mark.slow
def test_torchrun_train_into_a_place_that_is_taken_is_refused_once(tmp_path: Path) -> None:
    """Adds a refusal to what the lesion tells of results."""
    (tmp_path / "something").touch()
    status, out, said = torchrun("train", "cifar_resnet8", *SMALL, "--out", str(tmp_path))
    assert (status, out) == (1, "")
    assert said.count("is not empty and is not a run of howdeep") == len(said.splitlines()) == 1


def test_a_world_size_alone_trains_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Slurm and Kubernetes set it."""
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("RANK", "3")
    train = ["train", "cifar_resnet8", "--epochs", "1", "--precision", "fp32", "--out", str(tmp_path / "run")]
    assert cli.run([*train, *SMALL]) == 0
    assert (tmp_path / "run/result.json").exists()


def _fail_in_turn(number: int, said: SimpleQueue) -> None:
    """Process 1 fails while both are joined; process 0 has left the group when it does."""
    with joined(torch.device("cpu")) as both:
        if number == 1:
            said.put(complains_first())
        both.sums([1.0])
    if number == 0:
        said.put(complains_first())
        said.put(both.world)


def test_a_failure_of_both_is_said_once_where_one_has_left_the_group_before_it_fails() -> None:
    said = FORKS.SimpleQueue()
    processes = [fork(_fail_in_turn, number, said, rank=rank) for number, rank in enumerate(ranks(2))]
    for process in processes:
        process.join()
    assert [said.get() for _ in range(3)] == [True, False, 2]
