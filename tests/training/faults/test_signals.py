"""Signals: a process stops after its step, or at once if there is nothing to save."""

import os
import signal
import threading
from contextlib import suppress
from io import BytesIO

import pytest
import torch
from tiny_runs import run_tiny, write_data

from setmatch.data.images import decoding
from setmatch.errors import DataError
from setmatch.training.signals import Stopped, agreed_signal, stop_requests
from thorough import usually


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


def _in_code_that_catches_errors():
    with suppress(Exception):
        signal.raise_signal(signal.SIGTERM)


def _in_code_that_catches_everything():
    with suppress(BaseException):
        signal.raise_signal(signal.SIGTERM)


def _in_code_that_reports_an_error_of_its_own():
    try:
        signal.raise_signal(signal.SIGTERM)
    finally:
        raise DataError("the image cannot be read")


def _while_an_object_is_deleted():
    class Deleted:
        def __del__(self):
            signal.raise_signal(signal.SIGTERM)

    Deleted()


def _twice():
    try:
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.raise_signal(signal.SIGTERM)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "interrupted",
    [
        _in_code_that_catches_errors,
        _in_code_that_catches_everything,
        _in_code_that_reports_an_error_of_its_own,
        _while_an_object_is_deleted,
        _twice,
    ],
)
def test_no_code_takes_a_signal_for_a_fault_of_its_own(interrupted):
    """Decoders turn any exception into the image's error; the run must stop nevertheless."""
    with (
        pytest.raises(Stopped, match="by SIGTERM at an evaluation; continue"),
        stop_requests() as stop,
        stop.nothing_to_save("at an evaluation"),
    ):
        interrupted()


def test_an_error_without_a_signal_stays_what_it_is():
    with (
        pytest.raises(DataError, match="damaged"),
        stop_requests() as stop,
        stop.nothing_to_save("at an evaluation"),
    ):
        raise DataError("damaged")


@pytest.mark.parametrize("number", usually([signal.SIGTERM, signal.SIGINT], signal.SIGTERM))
def test_a_signal_while_a_validation_image_is_decoded_stops_the_run(tmp_path, monkeypatch, number):
    """The image is not counted as unreadable, and the evaluation is made again."""
    data = write_data(tmp_path, splits=("train", "val"))
    run_tiny(data, tmp_path / "whole", "train.epochs=1")
    decoded, opened = [], decoding._opened

    def interrupt(path, file, *formats):
        if "val_" in str(path) and isinstance(file, BytesIO) and not decoded:
            decoded.append(path)
            signal.raise_signal(number)
        return opened(path, file, *formats)

    with monkeypatch.context() as patch:
        patch.setattr(decoding, "_opened", interrupt)
        with pytest.raises(Stopped, match="at an evaluation"):
            run_tiny(data, tmp_path / "run", "train.epochs=1")
    assert decoded
    run_tiny(data, tmp_path / "run", "train.epochs=1", resume=True)
    metrics = [(tmp_path / run / "best" / "metrics.json").read_bytes() for run in ("run", "whole")]
    assert metrics[0] == metrics[1]


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
