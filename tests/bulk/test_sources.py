"""Where images come from: files, folders, patterns, lists, and addresses."""

import os
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from red_boxes import predict, rows, write_boxes

from setmatch.bulk.sources import list_images
from setmatch.errors import ConfigError, DataError, ExtraMissingError, UnreachableError


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_boxes(tmp_path / "in", 4)


@pytest.fixture
def bucket(images: Path):
    """The images in a store of objects, which has no folders of its own."""
    store = MemoryFileSystem()
    for path in images.iterdir():
        store.pipe_file(f"/bucket/deep/{path.name}", path.read_bytes())
    store.pipe_file("/bucket/notes.csv", b"no image")
    yield "memory://bucket"
    store.store.clear()
    store.pseudo_dirs[:] = [""]


def test_each_image_once_in_order(images: Path, tmp_path: Path):
    names = [str(images / f"{number:03}.png") for number in range(4)]
    (tmp_path / "list.txt").write_text("\n".join(names[::-1]))
    assert list_images([images]) == names
    assert list_images([images / "*.png"]) == names
    assert list_images([images / "002.png", images]) == [names[2], names[0], names[1], names[3]]
    assert list_images([tmp_path / "list.txt", images]) == names[::-1]


@pytest.mark.parametrize(
    "content",
    [
        b"a.png\nb b.png\n",
        b"a.png\r\nb b.png\r\n\r\n",
        b"\xef\xbb\xbfa.png\n\n  \nb b.png",
        b"a.png\nb b.png\na.png\n",
        b"  a.png \t\n\tb b.png\r\r\n",
    ],
)
def test_a_list_has_an_image_a_line(content: bytes, tmp_path: Path):
    """Whatever wrote it, and whether or not they exist."""
    (tmp_path / "list.txt").write_bytes(content)
    assert list_images([tmp_path / "list.txt"]) == ["a.png", "b b.png"]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is empty"), (b" \n\n", "is empty"), (b"\x89PNG\0\0", "is not text"), (None, "No such")],
)
def test_no_list(content: bytes | None, message: str, tmp_path: Path):
    if content is not None:
        (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(DataError, match=f"list.txt: .*{message}"):
        list_images([tmp_path / "list.txt"])


def test_bad_lines_of_a_list_are_rows(images: Path, tmp_path: Path):
    """One bad line does not take the others along."""
    latin_1 = os.fsdecode(b"caf\xe9.png")
    lines = [str(images / "000.png"), "gone.png", str(images), latin_1, "foo://x/y.png"]
    lines += ["memory://nowhere/z.png", str(images / "001.png")]
    (tmp_path / "list.lst").write_bytes(os.fsencode("\n".join(lines)))
    predict(tmp_path / "list.lst", tmp_path / "a.parquet")
    table = {row["path"]: row["error"] for row in rows(tmp_path / "a.parquet")}
    assert list(table) == [*lines[:3], "caf\\udce9.png", *lines[4:]]
    assert table["gone.png"] == "No such file or directory"
    assert table[str(images)] == "Is a directory"
    assert "foo" in table["foo://x/y.png"]
    assert table["memory://nowhere/z.png"] == "there is no such file or folder"
    assert table[lines[0]] is table[lines[-1]] is None


def test_addresses_are_read_like_files(images: Path, bucket: str, tmp_path: Path):
    predict(images, tmp_path / "files.parquet")
    for name, source in (("folder", bucket), ("pattern", f"{bucket}/**/*.png")):
        predict(source, tmp_path / f"{name}.parquet")
        found = rows(tmp_path / f"{name}.parquet")
        assert found == [
            row | {"path": row["path"].replace(str(images), "memory:///bucket/deep")}
            for row in rows(tmp_path / "files.parquet")
        ]


class ClientConnectionError(OSError):
    """As a library names it that is not the system's."""


@pytest.mark.parametrize(
    "error",
    [ConnectionResetError("reset"), TimeoutError(), ClientConnectionError("lost")],
    ids=lambda error: type(error).__name__,
)
def test_an_outage_ends_the_work_and_makes_no_rows(
    error: Exception, images: Path, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Else all images from then on would be unreadable ones, and nobody would look again."""
    read = MemoryFileSystem.cat_file

    def read_or_fail(self, path: str, *values, **named) -> bytes:
        if path.endswith("003.png"):
            raise error
        return read(self, path, *values, **named)

    out = tmp_path / "a.parquet"
    with monkeypatch.context() as patch:
        patch.setattr(MemoryFileSystem, "cat_file", read_or_fail)
        with pytest.raises(UnreachableError, match=r"003.png: cannot be reached .* again"):
            predict(bucket, out, part_images=1)
    assert [row["error"] for row in rows(out)] == [None, None, "cannot identify image file"]
    assert predict(bucket, out, part_images=1).before == 3
    assert len(rows(out)) == 4


def test_a_list_at_an_address(bucket: str):
    fsspec.filesystem("memory").pipe_file("/bucket/list.txt", b"memory://bucket/deep/000.png\n")
    assert list_images([f"{bucket}/list.txt"]) == [f"{bucket}/deep/000.png"]
    assert list_images([f"{bucket}/deep/000.png"]) == [f"{bucket}/deep/000.png"]


@pytest.mark.parametrize(
    ("address", "error", "message"),
    [
        ("memory://nowhere/images", DataError, "cannot be read .*no such file"),
        ("memory://bucket/*.gif", DataError, "no image files"),
        ("foo://bucket/images", ConfigError, "foo is not a known kind of address"),
        ("://", DataError, "cannot be read"),
        ("abfs://bucket/images", ExtraMissingError, "needs? another library.*pip install"),
    ],
)
def test_an_address_that_cannot_be_reached(
    address: str, error: type[Exception], message: str, bucket: str
):
    """One line, which names it; no traceback of a library."""
    with pytest.raises(error, match=message) as caught:
        list_images([address])
    assert str(caught.value).startswith(address)
    assert "\n" not in str(caught.value)
