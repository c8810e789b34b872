"""The recommended plan fits the data, is a valid recipe, and gives no unmeasured time."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from setmatch.data.audit.recommend.num_queries import queries_for
from setmatch.data.audit.recommend.recommend import (
    FINE_TUNED,
    FINE_TUNED_DENSE,
    SMALL,
    TrainingPlan,
    recommend,
)
from setmatch.data.dataset import DetectionDataset
from setmatch.data.open import open_dataset
from setmatch.data.synthetic.scenes import write_scenes
from setmatch.models.registry import MODELS, PUBLISHED
from setmatch.recipe_text import load_recipe
from setmatch.structures.metadata import Categories
from setmatch.training.schedule.schedule import make_schedule


def dataset_of(
    images: int, objects: int, size_px: tuple[int, int], side_px: float
) -> DetectionDataset:
    """Return images of one size, each with equal square objects."""
    count = images * objects
    return DetectionDataset(
        source=Path("set.json"),
        images=Path("images"),
        categories=Categories((1,), ("cat",)),
        image_ids=np.arange(images),
        sizes_px=np.tile(np.array(size_px, dtype=np.int32), (images, 1)),
        names=b"x" * images,
        name_offsets=np.arange(images + 1),
        offsets=np.arange(images + 1) * objects,
        xywh_px=np.tile([0.0, 0.0, side_px, side_px], (count, 1)),
        area_px=np.full(count, side_px**2),
        class_indices=np.zeros(count, dtype=np.int32),
        crowd=np.zeros(count, dtype=bool),
        annotation_ids=np.arange(count),
    )


def plan_for(
    has_gpu: bool, images: int = 500, objects: int = 5, side_px: float = 80.0
) -> TrainingPlan:
    return recommend(dataset_of(images, objects, (480, 640), float(side_px)), has_gpu)


def test_only_existing_models_are_recommended():
    """Models to fine-tune have published weights."""
    for suffix in ("", "_panoptic"):
        fine_tuned = {f"{name}{suffix}" for name in (FINE_TUNED, FINE_TUNED_DENSE)}
        assert fine_tuned <= {*PUBLISHED}
        assert {*fine_tuned, f"{SMALL}{suffix}"} <= {*MODELS}


@given(
    st.integers(1, 3000),
    st.integers(0, 30),
    st.tuples(st.integers(8, 4000), st.integers(8, 4000)),
    st.floats(0.5, 8),
    st.booleans(),
)
def test_every_plan_is_a_valid_recipe(
    images: int, objects: int, size_px, side_px: float, gpu: bool
):
    """The written plan reads back to the same recipe."""
    plan = recommend(dataset_of(images, objects, size_px, side_px), gpu)
    assert load_recipe(yaml.safe_load(plan.to_yaml())) == plan.recipe
    settings = plan.recipe.train
    assert settings.micro_batch == "auto" or settings.batch_size % settings.micro_batch == 0
    assert 30 <= plan.num_queries <= 900
    assert plan.num_queries >= objects
    assert plan.steps == make_schedule(images, settings).steps
    assert plan.hours is None
    data = plan.recipe.data
    assert len(plan.reasons) == 5 + (data.tiles is not None) + (data.augment == "flip")


@pytest.mark.parametrize(("objects", "queries"), [(5, 100), (100, 100), (101, 160), (2000, 900)])
def test_fine_tuning_has_at_least_the_published_100_queries(objects: int, queries: int):
    """And more if images have more than 100 objects."""
    assert plan_for(has_gpu=True, images=20, objects=objects).num_queries == queries


@pytest.mark.parametrize(("objects", "queries"), [(0, 30), (8, 30), (21, 40), (5000, 900)])
def test_a_small_model_has_one_and_a_half_times_as_many_queries_as_objects(
    objects: int, queries: int
):
    """In a plan and for a recipe with num_queries: auto."""
    assert queries_for(dataset_of(20, objects, (480, 640), 8.0)) == queries
    assert plan_for(has_gpu=False, images=20, objects=objects).num_queries == queries


def with_a_crowded_image(images: int) -> DetectionDataset:
    """Return images with one object each, except the first, which has 401."""
    dataset = dataset_of(images, 1, (480, 640), 8.0)
    rows = np.zeros(400, dtype=int)  # copies of the first image's object
    return replace(
        dataset,
        offsets=dataset.offsets + 400 * (np.arange(images + 1) > 0),
        **{
            name: np.concatenate([getattr(dataset, name)[rows], getattr(dataset, name)])
            for name in ("xywh_px", "area_px", "class_indices", "crowd", "annotation_ids")
        },
    )


def test_one_crowded_image_in_thousands_is_ignored():
    """Queries for its objects would be unused in all other images, and slow."""
    assert queries_for(with_a_crowded_image(2000)) == 30


@pytest.mark.parametrize(("images", "queries"), [(19, 610), (20, 30), (200, 30)])
def test_a_far_more_crowded_image_is_ignored_among_at_least_20(images: int, queries: int):
    assert queries_for(with_a_crowded_image(images)) == queries


def test_without_a_gpu_a_small_model_is_recommended():
    """Small objects raise the image size."""
    plan = plan_for(has_gpu=False)
    assert plan.recipe.model.preset == SMALL
    assert plan.weights == plan.recipe.model.init_weights == "scenes_n"
    small = plan_for(has_gpu=False, side_px=20)
    assert small.recipe.data.short_side_px > plan.recipe.data.short_side_px
    assert "no GPU" in plan.reasons[0]


def test_the_small_model_keeps_its_own_recipe():
    """With its optimizer and matching, for about a thousand steps."""
    plan = plan_for(has_gpu=False, images=205, objects=14)
    own = load_recipe("setmatch_n")
    assert plan.recipe.model.preset == "setmatch_n"
    assert plan.recipe.matching == own.matching
    assert plan.recipe.train.muon_lr == own.train.muon_lr > 0
    assert plan.num_queries == 30
    assert 1000 <= plan.steps < 1100


@pytest.mark.parametrize("has_gpu", [False, True])
@pytest.mark.parametrize("images", [20, 500, 1000, 1200, 5000, 200_000])
def test_the_augmentation_of_a_plan_begins_before_its_end(images: int, has_gpu: bool):
    plan = plan_for(has_gpu, images=images, objects=1)
    data, epochs = plan.recipe.data, plan.recipe.train.num_epochs
    assert data.strong_augment_from_epoch < epochs
    assert (data.augment == "flip") == any("only flipped" in each for each in plan.reasons)


def test_for_panoptic_data_a_model_with_masks_is_recommended(tmp_path: Path):
    """With a GPU and without."""
    write_scenes(tmp_path, 2, 1, 64, 0, 0, panoptic=True)
    plans = [recommend(open_dataset(tmp_path, "train", "panoptic"), gpu) for gpu in (True, False)]
    for plan, boxes_only in zip(plans, (FINE_TUNED, SMALL), strict=True):
        preset = plan.recipe.model.preset
        assert preset in (f"{boxes_only}_panoptic", f"{FINE_TUNED_DENSE}_panoptic")
        assert preset in MODELS
        assert load_recipe(yaml.safe_load(plan.to_yaml())) == plan.recipe
    assert plans[0].weights == plans[0].recipe.model.preset in PUBLISHED
    assert plans[1].recipe.loss == load_recipe("setmatch_n_panoptic").loss


def test_mostly_small_objects_choose_the_dilated_model():
    assert plan_for(has_gpu=True, side_px=12).recipe.model.preset == FINE_TUNED_DENSE
    assert plan_for(has_gpu=True, side_px=90).recipe.model.preset == FINE_TUNED


def test_more_images_need_fewer_epochs():
    """The number of steps stays about the same, for 12 to 300 epochs."""
    epochs = [plan_for(True, n).recipe.train.epochs for n in (100, 500, 2000, 50_000)]
    assert epochs == sorted(epochs, reverse=True)
    assert epochs[0] == 300
    assert epochs[-1] == 12


@pytest.mark.parametrize(("images", "said"), [(1, "1 image"), (20, "20 images")])
def test_a_plan_for_few_images_warns_of_overfitting(images: int, said: str):
    (length,) = (each for each in plan_for(False, images=images).reasons if "epochs" in each)
    assert length.endswith(f"; expect overfitting with only {said}")


def test_a_plan_gives_a_time_only_if_it_was_measured():
    plan = plan_for(True)
    assert plan.hours is None
    timed = plan.timed(3.6)
    assert timed.hours == pytest.approx(plan.steps * 3.6 / 3600)
