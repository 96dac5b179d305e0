"""Signals while something works."""

import signal
import threading
from pathlib import Path

import pytest

from howdeep import cli
from howdeep.runs import folder as runs
from howdeep.runtime.process import SIGNALS, Interrupted, patience, stopped
from howdeep.training import loop
from howdeep.util.errors import Stopped, UserError


def _raised(signum: int) -> None:
    """Send this process a signal; Python handles it before the next line."""
    signal.raise_signal(signum)


@pytest.mark.parametrize("signum", SIGNALS)
def test_a_signal_waits_for_the_step_and_is_not_forgotten(signum: signal.Signals) -> None:
    done = False
    with pytest.raises(Interrupted) as interrupt, patience() as request:  # noqa: PT012
        assert request.signum == 0
        _raised(signum)
        assert request.signum == signum
        done = True
    assert done
    assert interrupt.value.signum == signum


def test_a_second_signal_acts_at_once() -> None:
    with pytest.raises(Interrupted), patience():  # noqa: PT012
        _raised(signal.SIGTERM)
        _raised(signal.SIGINT)
        pytest.fail("the second one acts at once")


def test_what_has_stopped_is_not_disturbed_by_another_signal() -> None:
    with pytest.raises(Stopped), patience() as outer:  # noqa: PT012
        _raised(signal.SIGINT)
        with patience() as request:
            assert request is outer, "there is one request in a process"
            raise Stopped(130, "saved")
    with pytest.raises(Stopped, match="saved"), patience():  # noqa: PT012
        try:
            with patience():
                raise Stopped(130, "saved")
        finally:
            _raised(signal.SIGINT)


def test_the_line_says_which_signal_it_was() -> None:
    with pytest.raises(Stopped, match=r"^stopped; go on$") as stop, stopped("go on"), patience():
        _raised(signal.SIGTERM)
    assert stop.value.status == 128 + signal.SIGTERM


def test_the_handlers_come_back_also_after_an_error() -> None:
    before = [signal.getsignal(signum) for signum in SIGNALS]
    with pytest.raises(ZeroDivisionError), patience():  # noqa: PT012
        assert [signal.getsignal(signum) for signum in SIGNALS] != before
        _raised(signal.SIGTERM)
        raise ZeroDivisionError
    assert [signal.getsignal(signum) for signum in SIGNALS] == before


QUICK = ("--precision", "fp32", "--memory-format", "contiguous", "--threads", "1", "--batch-size", "32")


def _in_a_thread(arguments: list[str]) -> int:
    statuses: list[int] = []
    thread = threading.Thread(target=lambda: statuses.append(cli.run(arguments)))
    thread.start()
    thread.join()
    return statuses[0]


def test_a_network_is_trained_in_any_thread(tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["train", "cifar_resnet8", "--data", "digits", "--limit", "100", "--epochs", "1", "--out", str(out)]
    assert _in_a_thread([*words, *QUICK]) == 0
    assert (out / "result.json").is_file()


@pytest.mark.parametrize(
    ("error", "status"), [(MemoryError(), 1), (KeyboardInterrupt(), 130), (UserError("a broken image"), 2)]
)
def test_a_start_that_fails_leaves_no_folder(
    error: BaseException, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """With other options, or better data, the same place is free."""

    def failing(*given: object, **options: object) -> None:
        raise error

    monkeypatch.chdir(tmp_path)
    words = ["train", "cifar_resnet8", "--data", "digits", "--limit", "100", "--epochs", "1", *QUICK, "--out"]
    with monkeypatch.context() as patched:
        patched.setattr(loop, "train_step", failing)
        assert cli.run([*words, "new/run"]) == status
    assert capsys.readouterr().err.splitlines()[-1].startswith("howdeep: ")
    assert list(tmp_path.iterdir()) == []
    names = sorted([runs.METRICS, runs.IMAGES, "mine"])
    for name in names:
        Path(name).write_text("precious")
    assert cli.run([*words, "."]) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == names, "what was there before is nobody's to remove"
