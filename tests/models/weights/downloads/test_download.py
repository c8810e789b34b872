"""Downloads: continued after a break, checked by their hash, quick to fail without a network."""

import hashlib
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from setmatch.errors import WeightsError
from setmatch.models.weights.downloads.download import PublishedCheckpoint, fetch
from setmatch.models.weights.downloads.hub import fetch_hub
from setmatch.models.weights.downloads.resumable_download import download, partial_of

ADDRESS = "http:" + "//localhost:{}/{}"
CONTENT = bytes(range(256)) * 400
DIGEST = hashlib.sha256(CONTENT).hexdigest()[:8]


@dataclass
class Server:
    """A server of one file that breaks off after some bytes, for as often as it has `breaks`."""

    ranges: bool = True
    breaks: list[int] = field(default_factory=list)
    asked: list[str | None] = field(default_factory=list)
    url: str = ""


@contextmanager
def serving(server: Server, name: str = "weights.bin") -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked = self.headers.get("Range")
            server.asked.append(asked)
            start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
            start = start if server.ranges else 0
            if start >= len(CONTENT):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(CONTENT) - start))
            self.end_headers()
            rest = CONTENT[start:]
            self.wfile.write(rest[: server.breaks.pop(0)] if server.breaks else rest)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        server.url = ADDRESS.format(http.server_port, name)
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("breaks", [[], [1], [70_000], [50_000, 1, 0]])
def test_a_download_continues_after_a_break(tmp_path: Path, ranges: bool, breaks: list[int]):
    """It starts anew if the server does not send parts."""
    path = tmp_path / "weights.bin"
    with serving(Server(ranges, list(breaks))) as server:
        for _ in breaks:
            with pytest.raises(OSError, match=r"connection ended after \d+ of 102400 bytes"):
                download(server.url, path, DIGEST)
            assert not path.exists()
        download(server.url, path, DIGEST)
    assert path.read_bytes() == CONTENT
    assert not partial_of(path).exists()
    received = [sum(breaks[:tries]) for tries in range(len(breaks) + 1)]
    last = breaks[-1] if breaks and not ranges else received[-1]
    assert server.asked[-1] == (f"bytes={last}-" if last else None)


def test_a_download_that_was_only_not_renamed_is_complete(tmp_path: Path):
    path = tmp_path / "weights.bin"
    partial_of(path).write_bytes(CONTENT)
    with serving(Server()) as server:
        download(server.url, path, DIGEST)
    assert path.read_bytes() == CONTENT


def test_processes_that_want_the_same_file_download_it_once(tmp_path: Path):
    path = tmp_path / "weights.bin"
    with serving(Server()) as server:
        arguments = server.url, path, DIGEST
        threads = [threading.Thread(target=download, args=arguments) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert path.read_bytes() == CONTENT
    assert len(server.asked) == 1


def test_the_beginning_of_another_file_is_found_by_the_hash(tmp_path: Path, monkeypatch):
    """The next download starts anew."""
    monkeypatch.setenv("SETMATCH_CACHE", str(tmp_path / "cache"))
    name = f"weights-{DIGEST}.bin"
    (tmp_path / "cache").mkdir()
    partial_of(tmp_path / "cache" / name).write_bytes(b"other")
    with serving(Server(), name) as server:
        published = PublishedCheckpoint(server.url)
        with pytest.raises(WeightsError, match="run this again to download it anew"):
            fetch("weights", published)
        assert fetch("weights", published).read_bytes() == CONTENT
    assert server.asked == ["bytes=5-", None]


@pytest.mark.parametrize("revision", [None, "f79e65b5fbb33ceb9d3ebba042955d7410c608f8"])
def test_the_hub_is_asked_once_without_a_network(revision: str | None, monkeypatch):
    """Its library would try six times within half a minute."""
    tries = []

    def unreachable(*_: object, **__: object) -> None:
        tries.append(1)
        raise socket.gaierror("no network")

    def wait(seconds: float) -> None:
        pytest.fail(f"waits for {seconds} s")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    monkeypatch.setattr(time, "sleep", wait)
    with pytest.raises(WeightsError, match=r"cannot be reached .*fetch its config\.json"):
        fetch_hub("someone/unknown-model", revision)
    assert len(tries) == 1


def test_a_complete_commit_of_the_hub_is_not_asked_for(tmp_path: Path, monkeypatch, caplog):
    commit = "f79e65b5fbb33ceb9d3ebba042955d7410c608f8"
    folder = tmp_path / "models--someone--model" / "snapshots" / commit
    folder.mkdir(parents=True)
    for name in ("config.json", "preprocessor_config.json", "model.safetensors"):
        (folder / name).touch()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.snapshot_download", None)
    with caplog.at_level(logging.WARNING, "setmatch"):
        assert fetch_hub("someone/model", commit) == folder
    assert caplog.text == ""
