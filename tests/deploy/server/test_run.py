"""`setmatch serve`: what is refused before a model is loaded, and how a server ends."""

import os
import signal
import socket
import threading
import urllib.request
from pathlib import Path

import pytest

import setmatch.deploy.server.libraries as libraries
import setmatch.deploy.server.run as module
from setmatch.cli import main
from setmatch.deploy.server.run import Stopped, address_of, is_local, opened, read_token, serve
from setmatch.errors import ConfigError, ExtraMissingError

HOST = "127.0.0.1"


@pytest.fixture
def no_model(monkeypatch):
    """Loading a model fails the test."""
    monkeypatch.setattr(module, "load_on", None)


def test_a_port_in_use_is_one_line(no_model, capsys):
    with socket.create_server((HOST, 0)) as other:
        port = other.getsockname()[1]
        assert main(["serve", "scenes_n", "--port", str(port)]) == 2
    assert capsys.readouterr().err == (
        f"setmatch: port {port} of {HOST}: another program uses it; end that program, or choose "
        "another with --port\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "65536"], "port 65536: ports are 0 to 65535"),
        (["--port", "-1"], "port -1: ports are 0 to 65535"),
        (["--port", "0", "--host", "no such host"], "host no such host: there is no such address"),
        (["--port", "0", "--host", "203.0.113.7"], "this machine has no such address"),
        (["--queue", "0"], "queue = 0: must be at least 1"),
        (["--max-batch", "65"], "batch = 65: is larger than the queue of 64"),
        (["--max-mb", "0"], "max_bytes = 0: must be at least 1"),
        (["--timeout", "0"], "response_s = 0.0: must be at least 0.001"),
        (["--engine", "cuda"], "--engine"),
        (["--token-file", "nothing"], "nothing: No such file or directory"),
    ],
)
def test_options_that_cannot_be_are_one_line(no_model, capsys, arguments: list[str], message: str):
    assert main(["serve", "scenes_n", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "seconds"),
    [([], 30), (["--tiles", "auto"], 300), (["--tiles", "auto", "--timeout", "7"], 7)],
)
def test_an_image_in_tiles_may_take_longer(monkeypatch, arguments: list[str], seconds: float):
    """It takes as long as dozens of images, and would otherwise never be done in time."""
    given = []
    monkeypatch.setattr(
        "setmatch.deploy.server.run.serve", lambda model, **options: given.append(options)
    )
    assert main(["serve", "scenes_n", *arguments]) == 0
    assert given[0]["limits"].response_s == seconds


def test_a_model_that_there_is_not_is_one_line(capsys):
    assert main(["serve", "bloodcell_n", "--port", "0"]) == 2
    assert "did you mean bloodcells_n?" in capsys.readouterr().err


def test_without_the_extra_its_name_is_said(monkeypatch, capsys):
    monkeypatch.setattr(libraries, "find_spec", lambda name: None)
    with pytest.raises(ExtraMissingError, match=r"setmatch\[serve\]"):
        serve("scenes_n")


@pytest.mark.parametrize(
    "text",
    ["", "short", "x" * 15, "two words of enough length", "line\nanother line of it", "ü" * 20],
)
def test_a_token_that_could_be_guessed_or_not_be_sent_is_refused(tmp_path: Path, text: str):
    path = tmp_path / "token"
    path.write_text(text, "utf-8")
    with pytest.raises(ConfigError, match="a token is one line of at least 16 letters"):
        read_token(path)


def test_a_token_is_read_without_its_line_end(tmp_path: Path):
    (tmp_path / "token").write_text("0123456789abcdef\n")
    assert read_token(tmp_path / "token") == "0123456789abcdef"


@pytest.mark.parametrize(("host", "local"), [(HOST, True), ("localhost", True), ("0.0.0.0", False)])
def test_only_this_machine_is_local(host: str, local: bool):
    with opened(host, 0) as made:
        assert is_local(made) == local
        assert address_of(made).startswith("http")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_server(number: signal.Signals, code: int, capsys, monkeypatch):
    """The command prints its address when it is ready, and ends with the documented exit code."""
    before = signal.getsignal(number)
    responses = []

    def when_ready(line: str, flush: bool) -> None:
        address = line.partition(" at ")[2].split()[0]

        def look() -> None:
            with urllib.request.urlopen(f"{address}/healthz") as response:
                responses.append(response.read())
            os.kill(os.getpid(), number)

        threading.Thread(target=look).start()

    monkeypatch.setattr(module, "print", when_ready, raising=False)
    command = ["serve", "scenes_n", "--engine", "eager", "--port", "0", "--device", "cpu"]
    assert main(command) == code
    assert responses == [b'{"status":"ok"}']
    assert capsys.readouterr().err == (
        f"setmatch: stopped by {number.name}, after responding to all accepted requests\n"
    )
    assert signal.getsignal(number) == before


def test_a_server_for_the_network_without_a_token_is_warned_of(monkeypatch, caplog):
    class Ready:
        def __init__(self, *others: object) -> None:
            pass

        def run(self, sockets: object) -> None:
            raise Stopped(signal.SIGTERM)

    monkeypatch.setattr(module, "server_of", Ready)
    for host, warned in (("0.0.0.0", True), (HOST, False)):
        caplog.clear()
        with pytest.raises(Stopped):
            serve("scenes_n", engine="eager", host=host, port=0, device="cpu")
        assert ("asks for no token" in caplog.text) == warned
