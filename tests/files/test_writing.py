"""Files and folders are written atomically."""

import errno
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from setmatch.errors import ConfigError
from setmatch.files.writing import (
    append_text,
    atomic_file,
    atomic_files,
    atomic_folder,
    cache_folder,
    require_file,
    require_folder,
    require_page,
    write_text,
)


def test_a_file_appears_when_it_is_complete(tmp_path: Path):
    """Missing folders are created."""
    path = tmp_path / "new/deep/file.txt"
    with atomic_file(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
        temporary.write_text("whole")
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_file(path) as temporary:
        temporary.write_text(f"half{1 // 0}")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_after_bytes_leaves_nothing(tmp_path: Path):
    path = tmp_path / "file.txt"
    with pytest.raises(TypeError), atomic_file(path) as temporary:
        temporary.open("w").writelines(["half", 0])  # type: ignore[list-item]
    assert list(tmp_path.iterdir()) == []


def test_files_that_belong_together_appear_together(tmp_path: Path):
    """Neither changes while they are written, nor if that fails; errors name the first."""
    paths = tmp_path / "new/model.xml", tmp_path / "new/model.bin"
    with atomic_files(*paths) as temporary:
        assert temporary.name == "model.xml"
        temporary.write_text("graph")
        temporary.with_suffix(".bin").write_text("weights")
        assert not any(each.exists() for each in paths)
    assert [each.read_text() for each in paths] == ["graph", "weights"]
    with pytest.raises(OSError, match="No such file") as raised, atomic_files(*paths) as temporary:
        temporary.write_text("other")
    assert raised.value.filename == str(paths[0])
    with pytest.raises(ZeroDivisionError), atomic_files(*paths) as temporary:
        temporary.with_suffix(".bin").write_text(f"half{1 // 0}")
    assert [each.read_text() for each in paths] == ["graph", "weights"]
    assert sorted(paths[0].parent.iterdir()) == sorted(paths)


def test_a_full_disk_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The error names the final path: the system names no file, or the temporary one."""
    path = tmp_path / "file.txt"

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left on device") as raised, atomic_file(path) as to:
        to.write_text("whole")
    assert raised.value.filename == str(path)
    monkeypatch.undo()
    path.mkdir()
    with pytest.raises(IsADirectoryError) as raised, atomic_file(path) as to:
        to.write_text("whole")
    assert raised.value.filename == str(path)


def test_an_error_about_another_file_keeps_its_name(tmp_path: Path):
    with pytest.raises(FileNotFoundError) as raised, atomic_file(tmp_path / "file.txt"):
        (tmp_path / "source.txt").read_text()
    assert raised.value.filename == str(tmp_path / "source.txt")


def test_an_unwritable_path_is_refused_in_advance(tmp_path: Path):
    """A folder in a file's place, or a file in a folder's. Missing folders are no problem."""
    (tmp_path / "file").write_text("here")
    require_file(tmp_path / "file")
    require_file(tmp_path / "new/deep/page.html")
    require_folder(tmp_path / "new/deep")
    require_folder(tmp_path)
    with pytest.raises(ConfigError, match=r"is a folder; name a file, such as .*file\.html"):
        require_file(tmp_path)
    with pytest.raises(ConfigError, match=r"/file: is not a folder; name a folder$"):
        require_folder(tmp_path / "file")
    for refused in (
        lambda: require_file(tmp_path / "file/page.html"),
        lambda: require_folder(tmp_path / "file/deep"),
    ):
        with pytest.raises(ConfigError, match="/file is not a folder"):
            refused()


@pytest.mark.parametrize("name", ["a.csv", "a.JSON", "v1.2/a.mp4", "a.jpg", "a.html"])
def test_a_folder_is_not_called_like_a_file(tmp_path: Path, name: str):
    """Who names a.csv expects a file. A folder of that name that is there stays usable."""
    suffix = Path(name).suffix
    with pytest.raises(ConfigError, match=rf"of several files; name one without \{suffix}$"):
        require_folder(tmp_path / name)
    (tmp_path / name).mkdir(parents=True)
    require_folder(tmp_path / name)


@pytest.mark.parametrize(
    "name", ["v1.2", "run.", ".hidden", "2026.11.30", "answers.parquet", "best.onnx"]
)
def test_a_folder_may_have_a_dot_in_its_name(tmp_path: Path, name: str):
    require_folder(tmp_path / name)


@pytest.mark.parametrize("name", ["a.pdf", "a", "a.html.gz", "html"])
def test_a_page_is_called_html(tmp_path: Path, name: str):
    with pytest.raises(ConfigError, match=r"a page is HTML; name a file that ends in \.html$"):
        require_page(tmp_path / name)
    for good in ("a.html", "a.HTM", "deep/b.c.html"):
        require_page(tmp_path / good)


SPECIAL = ["fifo", "socket", "device", "link to a device"]


@pytest.fixture(params=SPECIAL)
def special(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """What a program can write to, but must not replace."""
    path = tmp_path / "special"
    if request.param == "fifo":
        os.mkfifo(path)
    elif request.param == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
    elif request.param == "device":
        path = Path(os.ttyname(os.openpty()[1]))
    else:
        path.symlink_to("/dev/null")
    return path


def test_a_device_pipe_or_socket_is_never_replaced(special: Path, tmp_path: Path):
    """An administrator could: the rename would leave a file where the device was."""
    before = special.lstat()
    with pytest.raises(ConfigError, match="is a device, pipe or socket, no file; name a file"):
        require_file(special)
    with pytest.raises(ConfigError, match=f"^{special}: is not a folder; name a folder"):
        require_folder(special)
    with pytest.raises(OSError, match="is a device, pipe or socket") as raised:
        write_text(special, "x")
    assert raised.value.filename == str(special)
    other = tmp_path / "other"
    for names in ((special, other), (other, special)):
        with pytest.raises(OSError, match="is a device"), atomic_files(*names):
            pytest.fail("the block should not run")
    assert (special.lstat().st_ino, special.lstat().st_mode) == (before.st_ino, before.st_mode)
    assert not other.exists()


@pytest.mark.parametrize("require", [require_file, require_folder])
def test_a_folder_in_which_no_file_can_be_made_is_refused_in_advance(require):
    """Even an administrator, who may write anywhere, makes no file in /proc."""
    with pytest.raises(ConfigError, match=r"^/proc/x: cannot be written: no file can be made in"):
        require("/proc/x")


def test_a_folder_appears_when_it_is_complete(tmp_path: Path):
    path = tmp_path / "new/folder"
    with atomic_folder(path) as temporary:
        (temporary / "a").write_text("a")
        assert not path.exists()
    assert (path / "a").read_text() == "a"
    with pytest.raises(OSError, match="not empty"), atomic_folder(path):
        pass
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_folder_leaves_the_old_one(tmp_path: Path):
    path = tmp_path / "folder"
    with atomic_folder(path) as temporary:
        (temporary / "old").touch()
    with pytest.raises(ZeroDivisionError), atomic_folder(path, replace=True) as temporary:
        (temporary / "new").touch(1 // 0)
    assert [each.name for each in tmp_path.rglob("*")] == ["folder", "old"]
    with atomic_folder(path, replace=True, durable=True) as temporary:
        (temporary / "new").touch()
    assert [each.name for each in tmp_path.rglob("*")] == ["folder", "new"]


@pytest.mark.parametrize("name", ["a" * 251 + ".txt", "ü" * 127, b"caf\xe9.txt", "a." + "b" * 253])
def test_a_file_of_any_name_is_written(tmp_path: Path, name: str | bytes):
    """Of 255 bytes, and of bytes that are not UTF-8; a library may look at the suffix."""
    path = tmp_path / os.fsdecode(name)
    with atomic_file(path) as temporary:
        temporary.write_text("whole")
        assert len(path.suffix) > 16 or temporary.suffix == path.suffix
    with atomic_folder(tmp_path / "in" / path.name) as temporary:
        (temporary / "a").write_text("whole")
    assert path.read_text() == (tmp_path / "in" / path.name / "a").read_text() == "whole"


def test_the_error_of_a_name_that_is_too_long_names_it(tmp_path: Path):
    path = tmp_path / ("a" * 256)
    with pytest.raises(OSError, match="name too long") as raised, atomic_file(path) as temporary:
        temporary.write_text("whole")
    assert raised.value.filename == str(path)
    assert list(tmp_path.iterdir()) == []


def test_a_failing_clean_up_does_not_hide_the_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def unlink(path: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr(Path, "unlink", unlink)
    with pytest.raises(ZeroDivisionError), atomic_file(tmp_path / "a") as temporary:
        temporary.write_text(f"half{1 // 0}")


def test_a_text_with_bytes_of_another_encoding_is_json(tmp_path: Path):
    name = os.fsdecode(b"caf\xe9 \xff.jpg")
    write_text(tmp_path / "a.json", json.dumps({"file_name": name, "ü": 1}, ensure_ascii=False))
    text = (tmp_path / "a.json").read_text("utf-8")
    assert json.loads(text) == {"file_name": name, "ü": 1}
    assert "ü" in text


def test_lines_are_appended_as_they_are(tmp_path: Path):
    append_text(tmp_path / "log", "a\r\n")
    append_text(tmp_path / "log", "é\n")
    assert (tmp_path / "log").read_bytes() == "a\r\né\n".encode()


def test_appending_never_waits_for_a_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Not even if the pipe takes the place of the file between a look and the opening."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for name in ("pipe", "link"):
        with pytest.raises(OSError, match="is a pipe, no file"):
            append_text(tmp_path / name, "a line")
    monkeypatch.setattr(Path, "is_fifo", lambda path: False)
    with pytest.raises(OSError, match="No such device"):
        append_text(tmp_path / "pipe", "a line")


def test_an_empty_name_of_the_cache_is_none(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SETMATCH_CACHE", "")
    assert cache_folder().parts[-1] == "setmatch"


@pytest.mark.parametrize("require", [require_file, require_folder])
@pytest.mark.parametrize("name", ["a" * 300, "\0", "x" * 300 + "/a", "/".join(["y" * 200] * 30)])
def test_a_name_that_no_file_can_have_is_refused_in_one_line(
    require: Callable[[Path], None], name: str, tmp_path: Path
):
    with pytest.raises(ConfigError, match=r"cannot be written \(.*\); name another$") as raised:
        require(tmp_path / name)
    assert len(str(raised.value)) < 400
    assert str(raised.value).isprintable()


class Others:
    """Another process that puts its folder at a path whenever this one has moved the old away."""

    def __init__(self, path: Path, times: int) -> None:
        self.path, self.times = path, times
        self.rename = Path.rename

    def __call__(self, source: Path, target: Path) -> Path:
        if target == self.path and self.times:
            self.times -= 1
            self.path.mkdir(exist_ok=True)
            (self.path / "theirs").touch()
        return self.rename(source, target)


@pytest.mark.parametrize("there_before", [False, True])
@pytest.mark.parametrize("times", [1, 2, 5])
def test_of_two_processes_that_replace_a_folder_the_last_one_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there_before: bool, times: int
):
    path = tmp_path / "site"
    if there_before:
        path.mkdir()
        (path / "old").touch()
    others = Others(path, times)
    monkeypatch.setattr(Path, "rename", lambda source, target: others(source, target))
    with atomic_folder(path, replace=True) as temporary:
        (temporary / "ours").touch()
    assert [str(each.relative_to(tmp_path)) for each in tmp_path.rglob("*")] == [
        "site",
        "site/ours",
    ]
    assert not others.times


def test_a_folder_that_others_always_replace_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "site"
    others = Others(path, 10**6)
    monkeypatch.setattr(Path, "rename", lambda source, target: others(source, target))
    with (
        pytest.raises(OSError, match="not empty") as raised,
        atomic_folder(path, replace=True) as temporary,
    ):
        (temporary / "ours").touch()
    assert raised.value.filename == str(path)


FULL = OSError(errno.ENOSPC, "No space left on device")
WRITERS = {
    "file": lambda path: atomic_file(path),
    "files": lambda path: atomic_files(path, path.with_suffix(".bin")),
    "folder": lambda path: atomic_folder(path),
    "replaced folder": lambda path: atomic_folder(path, replace=True, durable=True),
}


@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)
@pytest.mark.parametrize("inside", [False, True])
def test_the_error_of_a_full_disk_names_what_was_to_be_written(
    tmp_path: Path, writer: Callable[[Path], Any], inside: bool
):
    path = tmp_path / "out.xml"
    with pytest.raises(OSError, match="No space left") as raised, writer(path) as temporary:
        raise OSError(*FULL.args, str(temporary)) if inside else FULL
    assert raised.value.filename == str(path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)
def test_other_errors_keep_their_words(tmp_path: Path, writer: Callable[[Path], Any]):
    with pytest.raises(OSError, match=r"^not an image$"), writer(tmp_path / "out.xml"):
        raise OSError("not an image")
    elsewhere = OSError(errno.ENOENT, "No such file", "elsewhere")
    with pytest.raises(OSError, match="elsewhere"), writer(tmp_path / "out.xml"):
        raise elsewhere
