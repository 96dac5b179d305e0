"""Signals while a run trains."""

import signal

import pytest

from howdeep.training.interrupt import StopRequest


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_remembered_and_interrupts_nothing(signum: signal.Signals) -> None:
    with StopRequest() as request:
        assert request.signum == 0
        signal.raise_signal(signum)
        assert request.signum == signum


def test_a_second_interrupt_acts_at_once() -> None:
    with StopRequest():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def _fail_after_a_signal(before: list) -> None:
    assert [signal.getsignal(signum) for signum in StopRequest.SIGNALS] != before
    signal.raise_signal(signal.SIGTERM)
    raise ZeroDivisionError


def test_the_handlers_come_back_also_after_an_error() -> None:
    before = [signal.getsignal(signum) for signum in StopRequest.SIGNALS]
    with pytest.raises(ZeroDivisionError), StopRequest():
        _fail_after_a_signal(before)
    assert [signal.getsignal(signum) for signum in StopRequest.SIGNALS] == before
