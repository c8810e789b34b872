"""Image files are written whole or not at all."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from setmatch.data.images.writing import write_image
from small_disk import files_of_at_most


@pytest.fixture
def noise() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("count", [0, 1, 700])
def test_a_full_disk_leaves_no_part_of_an_image(
    tmp_path: Path, noise: Image.Image, form: str, count: int
):
    path = tmp_path / "a"
    path.write_text("earlier")
    with files_of_at_most(count), pytest.raises(OSError, match="File too large") as full:
        write_image(path, noise, form)
    assert full.value.filename == str(path)
    assert [each.read_text() for each in tmp_path.iterdir()] == ["earlier"]


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_options_are_those_of_pillow(tmp_path: Path, noise: Image.Image, form: str):
    write_image(tmp_path / "new" / "a", noise, form, quality=30)
    noise.save(tmp_path / "b", form, quality=30)
    assert (tmp_path / "new" / "a").read_bytes() == (tmp_path / "b").read_bytes()
