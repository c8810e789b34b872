"""The plan fits the data, exists as a recipe, and promises nothing that was not measured."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from setmatch.config import load_recipe
from setmatch.data.audit.num_queries import queries_for
from setmatch.data.audit.recommend import (
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
from setmatch.structures.metadata import Categories
from setmatch.training.schedule import recommend as schedule


def index_of(
    images: int, objects: int, size_px: tuple[int, int], side_px: float
) -> DetectionDataset:
    """Images of one size, each with equal square objects."""
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


def planned(
    has_gpu: bool, images: int = 500, objects: int = 5, side_px: float = 80.0
) -> TrainingPlan:
    return recommend(index_of(images, objects, (480, 640), float(side_px)), has_gpu)


def test_only_models_that_exist_are_planned():
    """Every name a plan can hold is a model, and what is fine-tuned has published weights."""
    for suffix in ("", "_panoptic"):
        plans = {f"{name}{suffix}" for name in (FINE_TUNED, FINE_TUNED_DENSE)}
        assert plans <= {*PUBLISHED}
        assert {*plans, f"{SMALL}{suffix}"} <= {*MODELS}


@given(
    st.integers(1, 3000),
    st.integers(0, 30),
    st.tuples(st.integers(8, 4000), st.integers(8, 4000)),
    st.floats(0.5, 8),
    st.booleans(),
)
def test_every_plan_is_a_recipe(images: int, objects: int, size_px, side_px: float, gpu: bool):
    """Whatever the data, the written plan reads back to the same recipe and can be followed."""
    plan = recommend(index_of(images, objects, size_px, side_px), gpu)
    assert load_recipe(yaml.safe_load(plan.to_yaml())) == plan.recipe
    settings = plan.recipe.train
    assert settings.micro_batch == "auto" or settings.batch_size % settings.micro_batch == 0
    assert 30 <= plan.num_queries <= 900
    assert plan.num_queries >= objects
    assert plan.steps == schedule(images, settings).steps
    assert plan.hours is None
    assert len(plan.reasons) == 5


@pytest.mark.parametrize(("objects", "queries"), [(5, 100), (100, 100), (101, 160), (2000, 900)])
def test_queries_follow_the_fullest_images(objects: int, queries: int):
    """Nearly every image has more queries than objects; published weights bring 100 at least."""
    assert planned(has_gpu=True, images=20, objects=objects).num_queries == queries


@pytest.mark.parametrize(("objects", "queries"), [(0, 30), (8, 30), (21, 40), (5000, 900)])
def test_a_small_model_has_half_as_many_queries_again_as_objects(objects: int, queries: int):
    """Whether a plan says so or a recipe leaves it to the data."""
    assert queries_for(index_of(20, objects, (480, 640), 8.0)) == queries
    assert planned(has_gpu=False, images=20, objects=objects).num_queries == queries


def with_a_crowd(images: int) -> DetectionDataset:
    """Return the index of images with an object each, but for the first, which has 401."""
    index = index_of(images, 1, (480, 640), 8.0)
    rows = np.zeros(400, dtype=int)  # of the first image's object
    return replace(
        index,
        offsets=index.offsets + 400 * (np.arange(images + 1) > 0),
        **{
            name: np.concatenate([getattr(index, name)[rows], getattr(index, name)])
            for name in ("xywh_px", "area_px", "slots", "crowd", "annotation_ids")
        },
    )


def test_one_crowded_image_of_thousands_decides_nothing():
    """Queries for its objects would be silent in all others, and slow."""
    assert queries_for(with_a_crowd(2000)) == 30


@pytest.mark.parametrize(("images", "queries"), [(19, 610), (20, 30), (200, 30)])
def test_nor_does_one_of_few_that_is_far_fuller_than_any_other(images: int, queries: int):
    """A twentieth of the images may be; of fewer it is more."""
    assert queries_for(with_a_crowd(images)) == queries


def test_without_a_gpu_a_small_model_is_planned():
    """A model that a processor can train, at a resolution that shows the objects."""
    plan = planned(has_gpu=False)
    assert plan.recipe.model.preset == SMALL
    assert plan.weights == plan.recipe.model.init_weights == "scenes_n"
    small = planned(has_gpu=False, side_px=20)
    assert small.recipe.data.short_side_px > plan.recipe.data.short_side_px
    assert "no GPU" in plan.reasons[0]


def test_from_scratch_the_fast_converging_family_is_planned():
    """What learns from nothing in a thousand steps, by the recipe of its own, with its queries."""
    plan = planned(has_gpu=False, images=205, objects=14)
    own = load_recipe("setmatch_n")
    assert plan.recipe.model.preset == "setmatch_n"
    assert plan.recipe.matching == own.matching
    assert plan.recipe.train.muon_lr == own.train.muon_lr > 0
    assert plan.num_queries == 30
    assert 1000 <= plan.steps < 1100


def test_where_every_pixel_is_annotated_the_model_has_masks(tmp_path: Path):
    """With a GPU and without, and the plan is one that can be built and read back."""
    write_scenes(tmp_path, 2, 1, 64, 0, 0, panoptic=True)
    plans = [recommend(open_dataset(tmp_path, "train", "panoptic"), gpu) for gpu in (True, False)]
    for plan, plain in zip(plans, (FINE_TUNED, SMALL), strict=True):
        preset = plan.recipe.model.preset
        assert preset.removesuffix("_panoptic") in (plain, FINE_TUNED_DENSE)
        assert preset in MODELS
        assert preset.endswith("_panoptic")
        assert load_recipe(yaml.safe_load(plan.to_yaml())) == plan.recipe
    assert plans[0].weights == plans[0].recipe.model.preset in PUBLISHED
    assert plans[1].recipe.loss == load_recipe("setmatch_n_panoptic").loss


def test_small_objects_ask_for_more_resolution():
    """With a GPU, mostly small objects choose the dilated model."""
    assert planned(has_gpu=True, side_px=12).recipe.model.preset == FINE_TUNED_DENSE
    assert planned(has_gpu=True, side_px=90).recipe.model.preset == FINE_TUNED


def test_more_images_need_fewer_epochs():
    """The number of steps is kept, between sensible bounds of epochs."""
    epochs = [planned(True, n).recipe.train.epochs for n in (100, 500, 2000, 50_000)]
    assert epochs == sorted(epochs, reverse=True)
    assert epochs[0] == 300
    assert epochs[-1] == 12


def test_time_is_only_told_when_measured():
    """Hours are steps times the measured seconds."""
    plan = planned(True)
    assert plan.hours is None
    timed = plan.timed(3.6)
    assert timed.hours == pytest.approx(plan.steps * 3.6 / 3600)
