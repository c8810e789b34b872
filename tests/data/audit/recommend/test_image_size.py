"""The input size that follows from the training split."""

from pathlib import Path

import numpy as np
import pytest

from setmatch.config import DataSettings
from setmatch.data.audit.recommend.image_size import (
    SIDES_PX,
    legible_side_px,
    preprocessing_of,
    resolve_image_size,
)
from setmatch.data.dataset import DetectionDataset
from setmatch.errors import ConfigError
from setmatch.recipe_text import load_recipe
from setmatch.structures.metadata import Categories

AUTO = DataSettings(short_side_px="auto", long_side_px="auto")


def dataset_of(size_px: tuple[int, int], sides_px: list[float]) -> DetectionDataset:
    """One image of square objects."""
    count = len(sides_px)
    return DetectionDataset(
        source=Path("set.json"),
        images=Path("images"),
        categories=Categories((1,), ("cat",)),
        image_ids=np.arange(1),
        sizes_px=np.array([size_px], dtype=np.int32),
        names=b"x",
        name_offsets=np.arange(2),
        offsets=np.array([0, count]),
        xywh_px=np.array([[0.0, 0.0, side, side] for side in sides_px]).reshape(count, 4),
        area_px=np.square(np.array(sides_px, dtype=float)),
        class_indices=np.zeros(count, dtype=np.int32),
        crowd=np.zeros(count, dtype=bool),
        annotation_ids=np.arange(count),
    )


@pytest.mark.parametrize(
    ("object_px", "short_px"), [(400.0, 160), (130.0, 192), (80.0, 320), (9.0, 320)]
)
def test_large_objects_get_a_small_image_size(object_px: float, short_px: int) -> None:
    """The smallest side at which objects reach 48 px, or the largest if none is enough."""
    assert legible_side_px(dataset_of((480, 640), [object_px] * 20), SIDES_PX) == short_px


def test_the_choice_of_sides_is_a_setting() -> None:
    """Weights that were trained on large images are tuned on larger ones than others."""
    data = DataSettings(short_side_px="auto", long_side_px="auto", auto_sides_px=[384, 640])
    for object_px, short_px in ((400.0, 384), (30.0, 640)):
        resolved = resolve_image_size(data, dataset_of((960, 1280), [object_px] * 20))
        assert (resolved.short_side_px, resolved.long_side_px) == (short_px, 2 * short_px)


def test_90_percent_of_the_objects_decide() -> None:
    """A single small object among 30 changes nothing; 4 of 20 do."""
    assert legible_side_px(dataset_of((480, 640), [400.0] * 29 + [10.0]), SIDES_PX) == 160
    assert legible_side_px(dataset_of((480, 640), [400.0] * 16 + [10.0] * 4), SIDES_PX) == 320


def test_small_images_are_not_upscaled() -> None:
    """Upscaling adds no detail; the smallest side is the exception."""
    assert legible_side_px(dataset_of((200, 300), [10.0]), SIDES_PX) == 192
    assert legible_side_px(dataset_of((64, 64), [10.0]), SIDES_PX) == SIDES_PX[0]
    assert legible_side_px(dataset_of((480, 640), []), SIDES_PX) == SIDES_PX[-1]


def test_sides_given_as_numbers_stay() -> None:
    """So does a side that was resolved before, whatever the data set."""
    training = dataset_of((480, 640), [130.0] * 20)
    resolved = resolve_image_size(AUTO, training)
    assert (resolved.short_side_px, resolved.long_side_px) == (192, 384)
    assert resolve_image_size(resolved, dataset_of((480, 640), [9.0])) == resolved
    assert preprocessing_of(resolved).short_side_px == 192
    fixed = DataSettings(short_side_px=640, long_side_px="auto")
    assert resolve_image_size(fixed, training).long_side_px == 1280


def test_a_side_is_a_number_or_auto() -> None:
    """Anything else is refused with the values that are allowed."""
    recipe = load_recipe("setmatch_n", ["data.short_side_px=auto", "data.long_side_px=500"])
    assert (recipe.data.short_side_px, recipe.data.long_side_px) == ("auto", 500)
    for wrong in ("large", "12.5", "true", "[1]"):
        with pytest.raises(ConfigError, match=r"short_side_px = .*an integer or auto"):
            load_recipe(None, [f"data.short_side_px={wrong}"])


@pytest.mark.parametrize(
    ("tiles", "object_px", "short_px"),
    [
        ("auto", 20.0, 320),  # as large as can be: tiles are not resized
        ("auto", 100.0, 320),
        (160, 24.0, 320),  # twice as large
        (160, 30.0, 256),
        (160, 48.0, 160),
        (640, 20.0, 320),
    ],
)
def test_tiles_are_resized_until_their_objects_are_large_enough(tiles, object_px, short_px):
    data = AUTO.model_copy(update={"tiles": tiles})
    training = dataset_of((3000, 4000), [object_px] * 20)
    assert resolve_image_size(data, training).short_side_px == short_px
