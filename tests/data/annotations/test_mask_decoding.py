"""Decoded masks equal those of COCO's own tools, in every notation."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as oracle

from setmatch.data.annotations.mask_decoding import read_segment_ids, segmentation_masks
from setmatch.data.annotations.segmentations import from_rings
from setmatch.data.dataset import DetectionDataset
from setmatch.data.formats.coco.read_panoptic import read_panoptic
from setmatch.errors import DataError
from small_coco import read_segmentations

HEIGHT, WIDTH = 40, 60
TRIANGLE = [1.0, 2.0, 30.5, 2.25, 5.0, 29.0]
SQUARE = [40, 10, 55, 10, 55, 25, 40, 25]


def panoptic(folder: Path, drawn: np.ndarray, *segment_ids: int) -> DetectionDataset:
    """Return a data set of one image whose PNG has the colors of `drawn`."""
    Image.new("RGB", (WIDTH, HEIGHT)).save(folder / "a.jpg")
    (folder / "set").mkdir(exist_ok=True)
    colors = np.stack([drawn % 256, drawn // 256 % 256, drawn // 256**2], axis=-1)
    Image.fromarray(colors.astype(np.uint8)).save(folder / "set" / "a.png")
    tree = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": HEIGHT, "width": WIDTH}],
        "categories": [{"id": 1, "name": "car", "isthing": 1}],
        "annotations": [
            {
                "image_id": 1,
                "file_name": "a.png",
                "segments_info": [
                    {"id": id_, "category_id": 1, "bbox": [number, 1, 9, 9], "area": 9}
                    | {"iscrowd": 0}
                    for number, id_ in enumerate(segment_ids)
                ],
            }
        ],
    }
    (folder / "set.json").write_text(json.dumps(tree))
    return read_panoptic(folder / "set.json")


def test_polygons_and_both_kinds_of_run_lengths_give_the_same_mask(tmp_path: Path):
    rings = oracle.frPyObjects([TRIANGLE, SQUARE], HEIGHT, WIDTH)
    merged = oracle.merge(rings)
    expected = oracle.decode(merged).astype(bool)
    compressed = {"counts": merged["counts"].decode(), "size": [HEIGHT, WIDTH]}
    flat = np.concatenate([[0], expected.ravel(order="F"), [2]])
    ends = np.flatnonzero(np.diff(flat)[1:]) + 1
    counts = np.diff(np.concatenate([[0], ends])).tolist()
    runs = {"counts": counts, "size": [HEIGHT, WIDTH]}
    masks = (
        read_segmentations(tmp_path, [TRIANGLE, SQUARE], compressed, runs)
        .target(0, masks=True)
        .masks
    )
    assert torch.equal(masks.unpack(), torch.from_numpy(expected).expand(3, -1, -1))


@given(st.lists(st.lists(st.floats(-20, 80, width=32), min_size=6, max_size=14), max_size=4))
def test_polygons_are_filled_as_by_pycocotools(corners):
    """To the pixel, even where they cross themselves or the edge of the image."""
    rings = [ring[: len(ring) // 2 * 2] for ring in corners]
    points = np.array([side for ring in rings for side in ring], dtype=np.float32).reshape(-1, 2)
    segmentations = from_rings(points, [len(ring) // 2 for ring in rings], [len(rings)])
    if segmentations is None:
        return
    merged = oracle.merge(oracle.frPyObjects(rings, HEIGHT, WIDTH))
    (mask,) = segmentation_masks(segmentations, [0], (HEIGHT, WIDTH))
    assert np.array_equal(mask, oracle.decode(merged).astype(bool))


@settings(max_examples=30)
@given(
    ids=st.lists(st.integers(1, 2**24 - 1), min_size=1, max_size=6, unique=True),
    seed=st.integers(0, 99),
)
def test_a_segment_id_is_the_color_of_the_png(tmp_path_factory: pytest.TempPathFactory, ids, seed):
    """Up to the last of three bytes."""
    drawn = np.random.default_rng(seed).choice([0, *ids], (HEIGHT, WIDTH))
    folder = tmp_path_factory.mktemp("png")
    dataset = panoptic(folder, drawn, *ids)
    assert np.array_equal(read_segment_ids(dataset.panoptic.path(0), (HEIGHT, WIDTH)), drawn)
    masks = dataset.masks(0, np.arange(len(ids)))
    assert all(np.array_equal(mask, drawn == id_) for mask, id_ in zip(masks, ids, strict=True))


def test_objects_without_a_pixel_are_not_targets(tmp_path: Path):
    """A segment missing from the PNG would teach an empty mask."""
    drawn = np.full((HEIGHT, WIDTH), 7)
    dataset = panoptic(tmp_path, drawn, 7, 8)
    assert len(dataset.target(0)) == 2
    target = dataset.target(0, masks=True)
    assert len(target) == len(target.cxcywh) == len(target.masks) == 1
    assert target.masks.unpack().all()


def test_an_object_without_a_segmentation_is_not_a_target(tmp_path: Path):
    """If no object has one, masks are refused."""
    assert len(read_segmentations(tmp_path, [TRIANGLE], []).target(0, masks=True)) == 1
    with pytest.raises(DataError, match="has boxes but no masks"):
        read_segmentations(tmp_path, [], None).target(0, masks=True)


def test_a_png_of_another_size_is_refused_by_name(tmp_path: Path):
    dataset = panoptic(tmp_path, np.full((HEIGHT // 2, WIDTH // 2), 7), 7)
    with pytest.raises(DataError, match=r"a\.png: cannot .* annotated image \(is 20×30 pixels"):
        dataset.target(0, masks=True)


@pytest.mark.parametrize(
    ("runs", "problem"),
    [
        ({"counts": [1, 2], "size": [HEIGHT, WIDTH + 1]}, "of another size than the image"),
        ({"counts": "not runs", "size": [HEIGHT, WIDTH]}, "that cannot be read"),
        ({"counts": [1, 2**40], "size": [HEIGHT, WIDTH]}, "that cannot be read"),
        ({"counts": [1, -2], "size": [HEIGHT, WIDTH]}, "that cannot be read"),
        ({"counts": [1, "2"], "size": [HEIGHT, WIDTH]}, "that cannot be read"),
    ],
)
def test_unreadable_run_lengths_are_left_out_and_reported(tmp_path: Path, runs, problem):
    """The box stays."""
    dataset = read_segmentations(tmp_path, [TRIANGLE], runs)
    (fix,) = dataset.fixes
    assert (fix.annotation, fix.description) == (2, f"run lengths {problem}: left out")
    assert len(dataset.target(0)) == 2
    assert len(dataset.target(0, masks=True)) == 1
