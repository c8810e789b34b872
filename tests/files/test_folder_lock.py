"""One process writes a folder at a time; whoever comes second learns who does."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from setmatch.errors import ConfigError
from setmatch.files import folder_lock, lock_holder
from setmatch.files.folder_lock import LOCK, FolderLock, locked
from setmatch.files.lock_holder import Holder

HOLDS = """
    import os, sys, time
    from pathlib import Path
    from setmatch.files.folder_lock import FolderLock
    lock = FolderLock(Path(sys.argv[1]))
    print("locked", flush=True)
    {then}
    time.sleep(100)
"""


@pytest.fixture
def holding(tmp_path: Path) -> Iterator[Any]:
    """Starts a process that locks tmp_path/out, does something, and waits to be killed."""
    started: list[subprocess.Popen[str]] = []

    def start(then: str = "") -> subprocess.Popen[str]:
        code = textwrap.dedent(HOLDS).format(then=then)
        command = [sys.executable, "-c", code, str(tmp_path / "out")]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        return process

    yield start
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.fixture
def no_system_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system on which every process gets every lock, as some network file systems are."""
    monkeypatch.setattr(folder_lock, "fcntl", None)


@pytest.fixture
def fake_clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Watching takes no real time; `during` is called whenever the watcher sleeps."""
    clock = SimpleNamespace(now=0.0, during=lambda: None)

    def sleep(seconds: float) -> None:
        clock.now += seconds
        clock.during()

    fake = SimpleNamespace(monotonic=lambda: clock.now, sleep=sleep)
    monkeypatch.setattr(folder_lock, "time", fake)
    return clock


def write_lock(folder: Path, **changes: Any) -> Path:
    """Leave the lock of this process behind, with other facts."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK
    path.write_text(replace(Holder.this_process(), **changes).dump())
    return path


def test_a_folder_is_locked_and_unlocked(tmp_path: Path):
    """The lock leaves nothing behind, not even the folders that it created."""
    with locked(tmp_path / "new/out") as lock:
        assert [path.name for path in (tmp_path / "new/out").iterdir()] == [LOCK]
        assert not lock.is_lost()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "out").mkdir()
    with locked(tmp_path / "out"):
        (tmp_path / "out/result").write_text("kept")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["result"]


def test_a_second_process_is_told_who_holds_the_folder(tmp_path: Path, holding: Any):
    """Process, host, and how to stop it; the holder is not disturbed."""
    process = holding()
    for _ in range(2):
        with pytest.raises(ConfigError) as error:
            FolderLock(tmp_path / "out")
        assert f"is being written by process {process.pid} on " in str(error.value)
        assert f"kill {process.pid}" in str(error.value)
    assert process.poll() is None


def test_the_same_process_cannot_lock_a_folder_twice(tmp_path: Path):
    """Two threads of a program that train into one folder would harm each other as well."""
    with locked(tmp_path), pytest.raises(ConfigError, match=rf"this process \({os.getpid()}\)"):
        FolderLock(tmp_path)


def test_a_holder_that_has_not_written_its_name_yet_holds_the_folder(tmp_path: Path):
    with locked(tmp_path):
        (tmp_path / LOCK).write_text("")
        with pytest.raises(ConfigError, match="is being written by another process; wait for it"):
            FolderLock(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_lock_ends_with_its_holder(tmp_path: Path, holding: Any, number: int):
    """A killed process leaves its lock file; the next one takes it over without waiting."""
    process = holding()
    process.send_signal(number)
    process.wait()
    assert (tmp_path / "out" / LOCK).exists()
    with locked(tmp_path / "out") as lock:
        assert not lock.is_lost()


def test_processes_that_the_holder_forked_do_not_hold_the_lock(tmp_path: Path, holding: Any):
    """Data-loading processes may outlive a killed run for a while."""
    process = holding("os.fork() or print('forked', flush=True)")
    assert process.stdout.readline() == "forked\n"  # by the child, which has let go of the lock
    process.kill()
    process.wait()
    FolderLock(tmp_path / "out").release()


def test_a_fork_does_not_release_the_lock(tmp_path: Path):
    with locked(tmp_path) as lock:
        child = os.fork()
        if child == 0:
            lock.release()
            os._exit(0)
        os.waitpid(child, 0)
        assert not lock.is_lost()


LEFT_BEHIND = {
    "the id of a process that has ended": {"pid": 2**31 - 1},
    "an id that another process has by now": {"started": "1"},
    "a process before the host was started again": {"machine": "another boot"},
    "a process of another host": {"host": "elsewhere", "machine": "another boot"},
    "a host that does not tell when processes started": {"started": "", "pid": 2**31 - 1},
}


@pytest.mark.parametrize("left", LEFT_BEHIND.values(), ids=LEFT_BEHIND)
@pytest.mark.usefixtures("no_system_locks")
def test_a_stale_lock_is_taken_over(tmp_path: Path, fake_clock: Any, left: dict[str, Any]):
    write_lock(tmp_path, **left)
    with locked(tmp_path) as lock:
        assert not lock.is_lost()
    assert fake_clock.now in (0, 30)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"pid": "x"}', "\0\0", "9" * 5000])
def test_a_lock_file_that_says_nothing_is_taken_over(tmp_path: Path, text: str):
    """A power failure may leave an empty or torn file."""
    (tmp_path / LOCK).write_text(text)
    with locked(tmp_path) as lock:
        assert not lock.is_lost()


@pytest.mark.usefixtures("no_system_locks")
def test_a_process_that_runs_holds_the_folder_without_system_locks(tmp_path: Path, holding: Any):
    """Its id and the time at which it started say so."""
    process = holding()
    with pytest.raises(ConfigError, match=f"process {process.pid} on "):
        FolderLock(tmp_path / "out")
    process.kill()
    process.wait()
    FolderLock(tmp_path / "out").release()


@pytest.mark.parametrize(
    "elsewhere",
    [{"host": "elsewhere"}, {"machine": "another container"}, {"started": ""}],
    ids=["another host", "another container", "no start time"],
)
def test_a_lock_that_is_touched_is_held(
    tmp_path: Path, fake_clock: Any, elsewhere: dict[str, str], caplog: pytest.LogCaptureFixture
):
    """A process that cannot be asked shows that it runs by touching its lock."""
    path = write_lock(tmp_path, **elsewhere)

    def touch() -> None:
        if fake_clock.now >= 5:
            os.utime(path, (fake_clock.now, fake_clock.now))

    fake_clock.during = touch
    with pytest.raises(ConfigError, match=r"is being written by .*process"):
        FolderLock(tmp_path)
    assert 5 <= fake_clock.now < 7
    assert "watching for 30 s" in caplog.text


def test_a_holder_touches_its_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """From another thread, so that long steps and evaluations do not matter."""
    touched = threading.Event()
    monkeypatch.setattr(folder_lock, "_TOUCHED_EVERY_S", 0.001)
    monkeypatch.setattr(folder_lock.os, "utime", lambda path: touched.set())
    with locked(tmp_path):
        assert touched.wait(60)


@pytest.mark.parametrize("deleted", ["the folder", "the lock file"])
def test_a_deleted_lock_is_noticed_and_renewed(tmp_path: Path, deleted: str):
    with locked(tmp_path / "out") as lock:
        (tmp_path / "out" / LOCK).unlink()
        if deleted == "the folder":
            (tmp_path / "out").rmdir()
        assert lock.is_lost()
        lock.renew()
        assert not lock.is_lost()
        with pytest.raises(ConfigError, match="this process"):
            FolderLock(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_another_process_took_over_is_not_given_back(tmp_path: Path, holding: Any):
    """Deleted, and created again by a second run: the first one must leave it alone."""
    with locked(tmp_path / "out") as lock:
        (tmp_path / "out" / LOCK).unlink()
        process = holding()
        assert lock.is_lost()
        with pytest.raises(ConfigError, match=f"process {process.pid} on "):
            lock.renew()
    assert json.loads((tmp_path / "out" / LOCK).read_text())["pid"] == process.pid


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("no/where")])
def test_what_is_in_the_place_of_the_lock_is_named(tmp_path: Path, make):
    make(tmp_path / LOCK)
    with pytest.raises(ConfigError, match=rf"{tmp_path / LOCK}: is in the place of .*; remove it"):
        FolderLock(tmp_path)
    assert os.path.lexists(tmp_path / LOCK)


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path):
    (tmp_path / "out").write_text("")
    with pytest.raises(ConfigError, match=r"out: cannot be written \(.+\); name another folder"):
        FolderLock(tmp_path / "out")


def test_a_lock_file_that_is_removed_before_it_is_locked_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The last holder removes it between the opening and the locking of the next."""
    lock_it = fcntl.flock
    removed: list[bool] = []

    def flock(file: int, how: int) -> None:
        if not removed:
            (tmp_path / LOCK).unlink()
        removed.append(True)
        lock_it(file, how)

    monkeypatch.setattr(folder_lock, "fcntl", SimpleNamespace(**{**vars(fcntl), "flock": flock}))
    with locked(tmp_path) as lock:
        assert len(removed) == 2
        assert not lock.is_lost()
        with pytest.raises(ConfigError, match="this process"):
            FolderLock(tmp_path)


def test_many_processes_take_turns(tmp_path: Path):
    """Of 4 processes that lock, count and unlock in a loop, no two are ever inside together."""
    code = textwrap.dedent("""
        import sys
        from pathlib import Path
        from setmatch.errors import ConfigError
        from setmatch.files.folder_lock import locked
        count, done = Path(sys.argv[1], "count"), 0
        while done < 10:
            try:
                with locked(count.parent):
                    count.write_text(str(int(count.read_text()) + 1))
                    done += 1
            except ConfigError:
                pass
    """)
    (tmp_path / "count").write_text("0")
    command = [sys.executable, "-c", code, str(tmp_path)]
    processes = [subprocess.Popen(command) for _ in range(4)]
    assert [process.wait(60) for process in processes] == [0] * 4
    assert (tmp_path / "count").read_text() == "40"
    assert [path.name for path in tmp_path.iterdir()] == ["count"]


def test_the_start_of_a_process_is_read_past_its_name(monkeypatch: pytest.MonkeyPatch):
    """A program may be called "a) Z (b"; a dead one that nobody waited for does not run."""
    rest = " ".join(str(number) for number in range(4, 53))

    def process(state: str) -> Any:
        text = f"7 (a) Z (b) {state} {rest}"
        return lambda path, errors="": text

    monkeypatch.setattr(lock_holder, "read_text", process("S"))
    assert lock_holder._started(7) == "22"
    monkeypatch.setattr(lock_holder, "read_text", process("Z"))
    assert lock_holder._started(7) == ""
