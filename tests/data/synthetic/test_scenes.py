"""Generated scenes: reproducible from a seed, with tight boxes, as ordinary COCO files."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from setmatch.data.open import open_dataset
from setmatch.data.synthetic.scenes import EASY, USUAL, landscape_scene, scene, write_scenes
from setmatch.data.synthetic.textures import (
    CLASSES,
    STUFF,
    clutter,
    shape_polygons,
    textured_background,
)
from setmatch.errors import ConfigError, DataError


def black(rng: np.random.Generator, side: int) -> np.ndarray:
    return np.zeros((side, side, 3), dtype=np.float32)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_seed_gives_the_same_files_on_any_number_of_processes(tmp_path: Path):
    """Byte for byte; another seed gives other files."""
    for name, seed, workers in (("alone", 3, 0), ("helped", 3, 2), ("other", 4, 0)):
        write_scenes(tmp_path / name, 5, 3, 64, seed, workers)
    assert contents(tmp_path / "alone") == contents(tmp_path / "helped")
    assert not set(contents(tmp_path / "alone").values()) & set(
        contents(tmp_path / "other").values()
    )


def test_written_scenes_open_without_fixes(tmp_path: Path):
    """Both splits have all classes, and share no image."""
    write_scenes(tmp_path, 6, 4, 48, 0, 0)
    train, val = open_dataset(tmp_path, "train"), open_dataset(tmp_path, "val")
    assert (len(train), len(val)) == (6, 4)
    assert train.categories.names == val.categories.names == CLASSES
    assert train.fixes == val.fixes == ()
    images = [path.read_bytes() for path in (tmp_path / "images").iterdir()]
    assert len(set(images)) == 10


def test_every_pixel_of_a_landscape_has_a_segment_and_masks_are_exact(tmp_path: Path):
    """Boxes and masks of both files agree, and nothing is fixed."""
    write_scenes(tmp_path, 6, 2, 64, 3, 0, panoptic=True)
    things = open_dataset(tmp_path, "train", "coco")
    whole = open_dataset(tmp_path, "train", "panoptic")
    assert things.fixes == whole.fixes == ()
    assert things.categories.names == CLASSES
    assert whole.categories.names == (*CLASSES, *STUFF)
    assert whole.categories.stuff == {6, 7, 8}
    for image in range(6):
        segments = whole.segments(image)
        assert (segments.ids > 0).all()
        first, last = things.offsets[image], things.offsets[image + 1]
        objects = things.masks(image, np.arange(first, last))
        assert np.array_equal(objects, segments.masks().unpack().numpy()[: last - first])
        assert [each["bbox"] for each in segments.to_dicts()][: last - first] == things.xywh_px[
            first:last
        ].tolist()
        rows = slice(whole.offsets[image], whole.offsets[image + 1])
        assert segments.area_px.tolist() == whole.area_px[rows].tolist()
        assert len(whole.target(image, masks=True)) == len(segments)


def test_landscapes_have_sky_above_ground_and_often_water():
    seen = [set(landscape_scene((4, number), 64)[1].classes.tolist()) for number in range(30)]
    assert all({6, 7} <= kinds for kinds in seen)
    assert 10 < sum(8 in kinds for kinds in seen) < 30


def test_plain_scenes_have_no_landscape(tmp_path: Path):
    """Earlier measurements on plain scenes stay comparable."""
    write_scenes(tmp_path, 1, 1, 64, 3, 0)
    assert sorted(path.name for path in (tmp_path / "annotations").iterdir()) == [
        "train.json",
        "val.json",
    ]
    assert "segmentation" not in (tmp_path / "annotations/train.json").read_text()


@pytest.mark.parametrize("size_px", [32, 160])
def test_boxes_lie_inside_the_image_and_every_class_appears(size_px: int):
    seen = set()
    sides = []
    for number in range(60):
        painted = scene((1, number), size_px)
        assert painted.pixels.shape == (size_px, size_px, 3)
        seen |= set(painted.classes)
        for (x, y, width, height), visible in zip(painted.xywh_px, painted.visible_px, strict=True):
            assert x >= 0
            assert y >= 0
            assert x + width <= size_px
            assert y + height <= size_px
            assert 24 <= visible <= width * height
            sides.append(max(width, height) / size_px)
    assert seen == set(range(len(CLASSES)))
    assert np.quantile(sides, 0.1) < 0.25 < 0.4 < np.quantile(sides, 0.95)


def test_boxes_are_tight_around_the_painted_pixels(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("setmatch.data.synthetic.scenes.textured_background", black)
    monkeypatch.setattr("setmatch.data.synthetic.scenes.clutter", lambda rng, canvas: canvas)
    checked = 0
    for number in range(30):
        painted = scene((2, number), 160, replace(USUAL, most_objects=1))
        for x, y, width, height in painted.xywh_px:
            bright = painted.pixels.max(axis=2) > 30
            rows, columns = np.flatnonzero(bright.any(1)), np.flatnonzero(bright.any(0))
            corners = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
            difference = np.abs(np.subtract(corners, (x, y, x + width, y + height)))
            checked += bool((difference <= 2).all())
    assert checked >= 20


def test_objects_occlude_each_other():
    overlapping = 0
    for number in range(40):
        x, y, width, height = np.array(scene((5, number), 160).xywh_px).T[..., None]
        apart = (x + width <= x.T) | (y + height <= y.T)
        overlapping += bool((~(apart | apart.T)).sum() > len(x))
    assert overlapping > 10


@pytest.mark.parametrize("name", CLASSES)
def test_shapes_have_radius_one_and_different_areas(name: str):
    polygons = shape_polygons(name)
    assert np.hypot(*polygons[0].T).max() == pytest.approx(1)
    image = Image.new("L", (200, 200))
    for polygon, ink in zip(polygons, (1, 0), strict=False):
        ImageDraw.Draw(image).polygon([tuple(p) for p in (99 * polygon + 100).tolist()], fill=ink)
    area = np.asarray(image).mean() * 4
    expected = {
        "circle": 3.14,
        "square": 2.0,
        "triangle": 1.30,
        "star": 1.29,
        "cross": 2.1,
        "ring": 2.15,
    }
    assert area == pytest.approx(expected[name], abs=0.12)


def test_clutter_covers_little_of_the_image():
    rng = np.random.default_rng(0)
    flat = np.full((160, 160, 3), 128, dtype=np.float32)
    shares = [(np.abs(clutter(rng, flat) - flat).max(axis=2) > 30).mean() for _ in range(20)]
    assert 0 < np.mean(shares) < 0.06


def test_backgrounds_vary():
    grounds = [textured_background(np.random.default_rng(seed), 64) for seed in range(20)]
    assert np.std([canvas.mean(axis=(0, 1)) for canvas in grounds]) > 15
    assert min(canvas.std() for canvas in grounds) > 3


@pytest.mark.parametrize("wrong", [{"size_px": 8}, {"train": 0}, {"val": -1}])
def test_impossible_requests_are_refused_before_anything_is_written(
    tmp_path: Path, wrong: dict[str, int]
):
    request = {"train": 1, "val": 1, "size_px": 64, "seed": 0, "workers": 0} | wrong
    with pytest.raises(ConfigError, match="at least 32 px"):
        write_scenes(tmp_path / "out", **request)
    assert not (tmp_path / "out").exists()


def test_an_unwritable_folder_is_named_in_the_error(tmp_path: Path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(DataError, match="taken: cannot be written"):
        write_scenes(tmp_path / "taken", 1, 1, 64, 0, 0)


def test_difficulty_limits_number_size_and_classes_of_objects():
    scenes = [scene((7, number), 96, EASY) for number in range(40)]
    assert {len(each.classes) for each in scenes} == {1, 2, 3}
    assert {class_index for each in scenes for class_index in each.classes} == {0, 1, 2}
    sides = [max(box[2:]) for each in scenes for box in each.xywh_px]
    assert min(sides) > 10


def test_easy_scenes_color_objects_by_class():
    for number in range(20):
        painted = scene((8, number), 64, EASY)
        for place, class_index in enumerate(painted.classes):
            seen = painted.pixels[painted.owner == place].mean(axis=0)
            assert seen.argmax() == class_index


def test_easy_scenes_list_only_their_classes(tmp_path):
    write_scenes(tmp_path, 1, 1, 64, 0, 0, EASY)
    tree = json.loads((tmp_path / "annotations" / "train.json").read_text())
    assert [each["name"] for each in tree["categories"]] == ["circle", "square", "triangle"]
