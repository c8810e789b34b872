"""A folder whose manifest is damaged in any way is damaged, and nothing worse happens."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from setmatch.files.manifest import MANIFEST, DamagedError, read_manifest, write_manifest

DEEP = "[" * 100_000


def replaced(name: str, make: Callable[[Path], object]) -> Callable[[Path], None]:
    """Put something else in the place of a file."""

    def change(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return change


@pytest.mark.parametrize("name", [MANIFEST, "model.onnx"])
@pytest.mark.parametrize(
    "make",
    [
        lambda path: None,
        Path.mkdir,
        os.mkfifo,
        lambda path: path.symlink_to(path.name),
        *(
            lambda path, text=text: path.write_text(text)
            for text in ("", "{", "3", "[]", "null", "NaN", "{}", '{"files": null}', DEEP)
        ),
        lambda path: path.write_bytes(b"\xff\xfe\x00"),
    ],
    ids=["gone", "folder", "pipe", "loop", "empty", "cut", "number", "list", "null", "nan", "bare",
         "no files", "deep", "bytes"],
)  # fmt: skip
def test_what_is_in_the_place_of_a_file_is_damage(tmp_path: Path, make, name: str):
    (tmp_path / "model.onnx").write_bytes(bytes(1000))
    write_manifest(tmp_path, {})
    assert read_manifest(tmp_path)["files"].keys() == {"model.onnx"}
    replaced(name, make)(tmp_path)
    with pytest.raises(DamagedError, match=name):
        read_manifest(tmp_path)
