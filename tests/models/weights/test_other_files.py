"""Files that belong to a model, or to other runtimes, are refused with the file to give."""

from pathlib import Path

import pytest
import torch

import setmatch as sm
from setmatch.errors import WeightsError
from setmatch.models.weights.other_files import RUNTIMES


@pytest.mark.parametrize(
    ("part", "main"),
    [
        ("model.bin", "model.xml"),
        ("MODEL.BIN", "MODEL.xml"),
        ("model.onnx.data", "model.onnx"),
        ("model.json", "model.safetensors"),
        ("two.dots.bin", "two.dots.xml"),
    ],
)
def test_a_part_of_a_model_names_the_file_to_give(part: str, main: str, tmp_path: Path):
    (tmp_path / part).write_bytes(b"\0\x01 values \x80")
    (tmp_path / main).write_bytes(b"")
    with pytest.raises(WeightsError, match=rf"{part}: a part of {main}, .*; give that file$"):
        sm.load(tmp_path / part)


def test_weights_of_openvino_alone_name_what_is_missing(tmp_path: Path):
    (tmp_path / "model.bin").write_bytes(b"\0\x01 values")
    with pytest.raises(WeightsError, match=r"copy model\.xml beside it"):
        sm.load(tmp_path / "model.bin")


@pytest.mark.parametrize("suffix", RUNTIMES)
def test_a_model_of_another_runtime_is_called_by_its_name(suffix: str, tmp_path: Path):
    (tmp_path / f"model{suffix}").write_bytes(b"values")
    with pytest.raises(WeightsError, match=f"a model of {RUNTIMES[suffix]}, which setmatch does"):
        sm.load(tmp_path / f"model{suffix}")


@pytest.mark.parametrize("is_zip", [True, False])
def test_a_checkpoint_beside_another_model_is_read(is_zip: bool, tmp_path: Path):
    """What it holds decides, not what lies beside it."""
    path = tmp_path / "pytorch_model.bin"
    torch.save({"a": 1}, path, _use_new_zipfile_serialization=is_zip)
    path.with_suffix(".xml").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"no tensors|not a model|is not a tensor"):
        sm.load(path)


@pytest.mark.parametrize("name", ["street.jpg", "STREET.JPEG", "a.png", "clip.mp4", "scan.tif"])
def test_an_image_in_the_place_of_a_model_says_what_comes_first(name: str, tmp_path: Path):
    (tmp_path / name).write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(WeightsError, match="is not a model; give the model first, then the"):
        sm.load(tmp_path / name)
