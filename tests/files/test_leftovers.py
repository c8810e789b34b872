"""What killed processes left behind goes with the next write; what a live one writes stays."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from setmatch.files import leftovers
from setmatch.files.leftovers import remove_dead, remove_leftovers, temporary_path
from setmatch.files.lock_holder import Holder
from setmatch.files.writing import atomic_file, atomic_files, atomic_folder

WRITERS: dict[str, Callable[[Path], Any]] = {
    "file": lambda path: atomic_file(path),
    "files": lambda path: atomic_files(path),
    "folder": lambda path: atomic_folder(path, replace=True),
}
# Writes half a file, says so, and waits to be killed.
WRITING = """
import sys, time
from pathlib import Path
from setmatch.files.writing import atomic_file, atomic_files, atomic_folder
with {"file": atomic_file, "files": atomic_files, "folder": atomic_folder}[sys.argv[1]](
    Path(sys.argv[2])
) as path:
    (path / "a" if sys.argv[1] == "folder" else path).write_text("half")
    print("writing", flush=True)
    time.sleep(600)
"""
DAY_S = 24 * 3600


@pytest.fixture
def writing() -> Iterator[Callable[[str, Path], "subprocess.Popen[bytes]"]]:
    """A function that starts a process in the middle of a write."""
    started = []

    def start(kind: str, path: Path) -> "subprocess.Popen[bytes]":
        process = subprocess.Popen(
            [sys.executable, "-c", WRITING, kind, str(path)], stdout=subprocess.PIPE
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"writing\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write(kind: str, path: Path) -> None:
    with WRITERS[kind](path) as temporary:
        (temporary / "a" if kind == "folder" else temporary).write_text("whole")


@pytest.mark.parametrize("kind", WRITERS)
def test_a_killed_writer_leaves_nothing_for_the_next_one(kind: str, tmp_path: Path, writing: Any):
    """While it runs, its file stays; once it is killed, any write in the folder removes it."""
    process = writing(kind, tmp_path / "first")
    (half,) = names(tmp_path)
    for number, other in enumerate(WRITERS):
        write(other, tmp_path / f"live-{number}")
        assert half in names(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert half in names(tmp_path)
    write("files", tmp_path / "second")
    assert names(tmp_path) == ["live-0", "live-1", "live-2", "second"]


def left(folder: Path, monkeypatch: pytest.MonkeyPatch, age_s: float = 0, **process: Any) -> Path:
    """Return a temporary file of another process, last touched `age_s` ago."""
    holder = replace(Holder.this_process(), **process)
    with monkeypatch.context() as patch:
        patch.setattr(Holder, "this_process", lambda: holder)
        path = temporary_path(folder / "model.onnx")
    path.write_text("half")
    os.utime(path, (time.time() - age_s,) * 2)
    return path


GONE = {
    "a later process with its id": {"started": "1"},
    "no process with its id": {"pid": 2**22 + 7},
    "an id of a system that does not say when": {"pid": 2**22 + 7, "started": ""},
    "another host, a day ago": {"host": "elsewhere", "age_s": DAY_S + 60},
    "this host before it started again": {"machine": "an older boot", "age_s": DAY_S + 60},
}
MAY_RUN = {
    "this process": {},
    "this process for days": {"age_s": 30 * DAY_S},
    "another host": {"host": "elsewhere"},
    "another container": {"machine": "another", "age_s": DAY_S - 60},
    "the parent, of a system that does not say when": {"pid": os.getppid(), "started": ""},
}


@pytest.mark.parametrize("process", GONE.values(), ids=GONE)
@pytest.mark.parametrize("kind", WRITERS)
def test_a_dead_writer_is_recognized(
    kind: str, process: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    left(tmp_path, monkeypatch, **process)
    write(kind, tmp_path / "new")
    assert names(tmp_path) == ["new"]


@pytest.mark.parametrize("process", MAY_RUN.values(), ids=MAY_RUN)
@pytest.mark.parametrize("kind", WRITERS)
def test_a_writer_that_may_run_keeps_its_file(
    kind: str, process: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    half = left(tmp_path, monkeypatch, **process)
    write(kind, tmp_path / "new")
    assert half.read_text() == "half"


def test_a_folder_counts_as_touched_when_a_file_in_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A large file is written for long, and the folder of that file is as old as its name."""
    half = left(tmp_path, monkeypatch, host="elsewhere")
    half.unlink()
    half.mkdir()
    (half / "weights").write_text("half")
    os.utime(half, (time.time() - 2 * DAY_S,) * 2)
    remove_dead(tmp_path)
    assert (half / "weights").exists()
    os.utime(half / "weights", (time.time() - 2 * DAY_S,) * 2)
    os.utime(half, (time.time() - 2 * DAY_S,) * 2)
    remove_dead(tmp_path)
    assert names(tmp_path) == []


@pytest.mark.parametrize("name", [".writing-", ".writing-7-a", ".writing-x-y-z-0-q", "writing"])
def test_files_of_others_stay(name: str, tmp_path: Path):
    """However old: another program may call its files like this."""
    (tmp_path / name).touch()
    os.utime(tmp_path / name, (0, 0))
    write("file", tmp_path / "new")
    assert name in names(tmp_path)


def test_leftovers_in_a_locked_folder_go_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Whoever wrote them; a live process of this machine keeps its own all the same.

    A folder that was being replaced is restored, unless the new one is in place.
    """
    left(tmp_path, monkeypatch, host="elsewhere")
    left(tmp_path, monkeypatch, started="1")
    mine = left(tmp_path, monkeypatch)
    for name in (".writing-7-a", ".replaced-lost", ".replaced-there", "there", ".removed-it"):
        (tmp_path / name).mkdir()
    (tmp_path / ".writing-7-b").touch()
    (tmp_path / ".replaced-lost/file").touch()
    remove_leftovers(tmp_path)
    assert names(tmp_path) == [mine.name, "lost", "there"]
    assert (tmp_path / "lost/file").exists()


@pytest.mark.parametrize("kind", WRITERS)
def test_threads_that_write_the_same_do_not_touch_each_other(kind: str, tmp_path: Path):
    """The last one wins."""
    path, both = tmp_path / "out", threading.Barrier(2, timeout=30)

    def write_text(text: str) -> None:
        with WRITERS[kind](path) as temporary:
            file = temporary / "a" if kind == "folder" else temporary
            file.write_text(text)
            both.wait()
            assert file.read_text() == text

    with ThreadPoolExecutor() as threads:
        list(threads.map(write_text, ["one", "two"]))
    assert names(tmp_path) == ["out"]


def test_a_folder_of_many_files_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A million images are written one by one."""
    read = []
    monkeypatch.setattr(leftovers, "remove_dead", read.append)
    for number in range(3):
        write("file", tmp_path / str(number))
    assert read == [tmp_path]
