"""A model that is in use stays as it is, whatever becomes of the files that it was loaded from."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from setmatch.deploy.formats.onnx import OnnxGraph
from setmatch.deploy.formats.openvino import OpenVinoGraph
from setmatch.deploy.load import load
from setmatch.inference.predict import predict
from setmatch.models.load import convert_weights, save

SIZE_PX = (64, 96)


def junk(path: Path) -> None:
    """Write other bytes over the file, in place."""
    count = path.stat().st_size
    with path.open("r+b") as file:
        file.write(b"\x11" * count)


REPLACED: dict[str, Callable[[Path], None]] = {
    "written over": junk,
    "removed": Path.unlink,
    "another file": lambda path: path.with_suffix(".new").replace(path),
}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model in both of our layouts."""
    folder = tmp_path_factory.mktemp("models")
    model = load("scenes_n")
    save(model, folder / "folder")
    convert_weights(folder / "folder", folder / "small", to="setmatch-small")
    return folder


def used(path: Path, replace: Callable[[Path], None]) -> tuple[list[float], list[float]]:
    """Return the scores that a model finds before and after all its files are replaced."""
    image = torch.full((3, *SIZE_PX), 90, dtype=torch.uint8)
    model, first = load(path), load(path)
    before = predict(first, image, threshold=0).scores.tolist()  # `model` has touched nothing yet
    assert before
    files = [path, path.with_suffix(".bin")] if path.is_file() else list(path.iterdir())
    for file in files:
        if file.exists():
            file.with_suffix(".new").write_bytes(b"\x22" * 100)
            replace(file)
    return before, predict(model, image, threshold=0).scores.tolist()


@pytest.mark.parametrize("replace", REPLACED.values(), ids=REPLACED)
@pytest.mark.parametrize("layout", ["folder", "small"])
def test_weights_in_use_stay(
    layout: str, replace: Callable[[Path], None], written: Path, tmp_path: Path
):
    shutil.copytree(written / layout, tmp_path / layout)
    before, after = used(tmp_path / layout, replace)
    assert after == before


@pytest.mark.crossed
@pytest.mark.parametrize("replace", REPLACED.values(), ids=REPLACED)
@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_exported_files_in_use_stay(
    kind: str,
    replace: Callable[[Path], None],
    fixed: OnnxGraph,
    fixed_openvino: OpenVinoGraph,
    tmp_path: Path,
):
    path = tmp_path / ("model.onnx" if kind == "onnx" else "model.xml")
    (fixed if kind == "onnx" else fixed_openvino).save(path)
    before, after = used(path, replace)
    assert after == before
