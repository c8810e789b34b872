"""Signals: a process stops after its step, or at once if there is nothing to save."""

import os
import signal
import threading

import pytest
import torch

from setmatch.training.signals import Stopped, agreed_signal, stop_requests


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_first_signal_only_sets_a_flag(number, code):
    """All processes learn of it from the summed flags; the exit code is documented."""
    with stop_requests() as stop:
        assert agreed_signal(stop.flags()) is None
        os.kill(os.getpid(), number)
        assert agreed_signal(stop.flags() + torch.zeros(2)) == number
    assert Stopped(number, "after step 3").exit_code == code


def test_a_second_ctrl_c_raises_keyboard_interrupt():
    def work():
        with stop_requests():
            os.kill(os.getpid(), signal.SIGINT)
            reached.append(True)
            os.kill(os.getpid(), signal.SIGINT)
            reached.append(True)

    reached = []
    with pytest.raises(KeyboardInterrupt):
        work()
    assert reached == [True]


@pytest.mark.parametrize("early", [True, False])
def test_with_nothing_to_save_the_first_signal_stops_at_once(early):
    """Before training or at an evaluation; the message says which."""

    def work():
        with stop_requests() as stop:
            if early:
                os.kill(os.getpid(), signal.SIGTERM)
            with stop.nothing_to_save("before the first step"):
                os.kill(os.getpid(), signal.SIGTERM)
                reached.append(True)

    reached = []
    with pytest.raises(Stopped, match="by SIGTERM before the first step; continue"):
        work()
    assert reached == []


def test_signal_handlers_are_restored():
    """Also after an error."""
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with pytest.raises(ValueError, match="x"), stop_requests():
        raise ValueError("x")
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_training_may_run_in_a_thread():
    """Python catches signals in the main thread only; that is no error."""
    seen = []

    def work():
        with stop_requests() as stop:
            seen.append(agreed_signal(stop.flags()))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [None]
