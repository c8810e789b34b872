"""What a loop of one's own is given wrongly is answered in one sentence where it comes in.

Each part of each structure is replaced in turn by everything that it is not: other types, shapes,
numbers of rows, devices. What computes with them afterwards reads no value from a device.
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import setmatch as sm
from setmatch.errors import ConfigError, DataError, SetmatchError
from setmatch.inference.engines.eager import EagerEngine
from setmatch.losses.normalizer import LossNormalizer
from setmatch.models.registry import build
from setmatch.structures.metadata import ModelCard
from setmatch.structures.outputs import ModelOutput
from setmatch.structures.packed_masks import PackedMasks

NAMES = sm.Categories((1, 2, 3), ("a", "b", "c"))
RECIPE = sm.load_recipe("setmatch_n")
ONE = torch.zeros(1, dtype=torch.int64)
BOX = torch.tensor([[0.5, 0.5, 0.2, 0.3]])


@pytest.fixture(autouse=True)
def as_users_run_it():
    """Without the tests' own checks of types and shapes, which users do not have."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def masks(count: int) -> PackedMasks:
    return PackedMasks.pack(torch.ones(count, 8, 8, dtype=torch.bool))


RIGHT: dict[Callable[..., Any], dict[str, Any]] = {
    sm.Batch: {
        "pixels": torch.zeros(2, 3, 8, 8),
        "valid": torch.ones(2, 8, 8, dtype=torch.bool),
        "padded": False,
    },
    sm.Target: {"classes": ONE, "cxcywh": BOX, "masks": masks(1)},
    sm.Detections: {
        "xyxy_px": torch.tensor([[1.0, 2.0, 3.0, 4.0]]),
        "scores": torch.tensor([0.5]),
        "classes": ONE,
        "categories": NAMES,
        "size_px": (8, 8),
        "masks": masks(1),
    },
    sm.Predictions: {
        "logits": torch.zeros(2, 1, 5, 3),
        "cxcywh": torch.full((2, 1, 5, 4), 0.5),
        "masks": torch.zeros(1, 5, 8, 8),
    },
    sm.PredictionGroup: {
        "name": "main",
        "predictions": sm.Predictions(torch.zeros(2, 1, 5, 3), torch.full((2, 1, 5, 4), 0.5)),
        "assignment": None,
        "repeats": 1,
        "query_groups": 1,
        "targets": (sm.Target(ONE, BOX),),
    },
    sm.Categories: {"ids": (1, 2), "names": ("a", "b"), "stuff": frozenset({1})},
}
STRANGERS: dict[str, Any] = {
    "a number": 7.5,
    "a text": "ab",
    "a dictionary": {"boxes": [1]},
    "a list": [[1.5, 2.5]],
    "an array": np.zeros((1, 4)),
    "a generator": (each for each in ()),
    "an object": object(),
}
# What each part may be beside what it is: a number has no wrong shape.
MAY_BE = {("name", "a text")}


def wrong_tensors(right: Tensor) -> Iterator[tuple[str, Any]]:
    """Yield what is nearly a tensor: another rank, number of rows, type, device, or library."""
    yield "one axis less", right[0]
    yield "one axis more", right[None]
    yield "a row more", torch.cat([right, right[:1]])
    yield "another last axis", torch.cat([right, right], dim=-1) if right.ndim > 1 else right[:0]
    yield "complex", right.to(torch.complex64)
    yield "of another kind", right.long() if right.is_floating_point() else right.float()
    yield "an array", right.numpy()
    yield "a list", right.tolist()
    yield "elsewhere", right.to("meta")


def wrong_values(name: str, right: Any) -> Iterator[tuple[str, Any]]:
    yield from STRANGERS.items()
    if isinstance(right, Tensor):
        yield from wrong_tensors(right)
        yield "None", None
    if isinstance(right, PackedMasks):
        yield "too many", masks(2)
        yield "not packed", torch.ones(1, 8, 8, dtype=torch.bool)


CASES = [
    pytest.param(kind, name, wrong, id=f"{kind.__name__}-{name}-{what}")
    for kind, right in RIGHT.items()
    for name, value in right.items()
    for what, wrong in wrong_values(name, value)
    if (name, what) not in MAY_BE
    and (name, what) != ("masks", "None")
    and (kind, what) != (sm.Predictions, "another last axis")  # any number of classes
]


@pytest.mark.parametrize("kind", RIGHT, ids=lambda kind: kind.__name__)
def test_what_is_right_is_accepted(kind: Callable[..., Any]):
    assert kind(**RIGHT[kind]) is not None


@pytest.mark.parametrize(("kind", "name", "wrong"), CASES)
def test_a_wrong_part_is_named_in_one_sentence(kind: Any, name: str, wrong: Any):
    with pytest.raises(SetmatchError) as caught:
        kind(**RIGHT[kind] | {name: wrong})
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 500
    assert kind.__name__ in text or f"group {RIGHT[kind].get('name')}" in text


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({"ids": (1, 1)}, "an id of its own"),
        ({"ids": (1.0, 2.0)}, "whole number"),
        ({"names": (1, 2)}, "each is a string or None"),
        ({"stuff": {2}}, "class indices from 0 to 1"),
    ],
)
def test_categories_that_contradict_themselves_are_refused(given: dict[str, Any], what: str):
    with pytest.raises(SetmatchError, match=what):
        sm.Categories(**RIGHT[sm.Categories] | given)


def test_lists_of_categories_are_the_same_as_tuples():
    assert sm.Categories([1, 2], ["a", "b"], [1]) == sm.Categories(**RIGHT[sm.Categories])


@pytest.mark.parametrize("index", [-1, 3, 10**9])
def test_an_index_that_is_no_class_has_no_name(index: int):
    """-1 is not the last class."""
    with pytest.raises(SetmatchError, match="class indices are 0 to 2"):
        NAMES.name(index)


IMAGE = torch.zeros(3, 8, 8)


@pytest.mark.parametrize(
    "images",
    [
        None,
        [],
        (),
        "street.jpg",
        ["street.jpg"],
        IMAGE,
        IMAGE[None],
        [IMAGE.numpy()],
        [IMAGE.byte()],
        [IMAGE[0]],
        [IMAGE.permute(1, 2, 0)],
        [IMAGE[:, :0]],
        [IMAGE, IMAGE.double()],
        [IMAGE, IMAGE.to("meta")],
        [IMAGE, None],
    ],
    ids=lambda images: type(images).__name__,
)
def test_what_is_no_list_of_images_makes_no_batch(images: Any):
    with pytest.raises(DataError, match=r"Batch\.from_images: .*(3, h, w)|one type and device"):
        sm.Batch.from_images(images)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_boxes_of_any_floating_point_type_are_learned_as_float32(dtype: torch.dtype):
    """NumPy's numbers are float64, which no model multiplies."""
    made = sm.Target(ONE, BOX.to(dtype))
    assert made.cxcywh.dtype == torch.float32
    torch.testing.assert_close(made.cxcywh, BOX, atol=0.01, rtol=0)


@pytest.mark.parametrize(
    ("boxes", "warned"),
    [
        ([[0.1, 0.1, 0.9, 0.9]], True),  # corners of a large box
        ([[0.1, 0.1, 0.2, 0.2], [0.1, 0.2, 0.5, 0.9]], True),
        ([[0.5, 0.5, 0.2, 0.2], [0.1, 0.2, 0.5, 0.9]], False),  # the first is no box of corners
        ([[0.5, 0.5, 1.0, 1.0]], False),
        ([[0.1, 0.5, 0.3, 0.4]], False),  # cut off by the border
    ],
)
def test_boxes_that_look_like_corners_are_said(boxes: list[list[float]], warned: bool):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sm.Target(torch.zeros(len(boxes), dtype=torch.int64), torch.tensor(boxes))
    assert [("xyxy_to_cxcywh" in str(each.message)) for each in caught] == [True] * warned


def test_images_of_bytes_are_said():
    with pytest.warns(UserWarning, match="reaches 255, .*normalized"):
        sm.Batch.from_images([torch.full((3, 8, 8), 255.0)])


def tiny() -> sm.models.Detector:
    shape = {"dim": 32, "heads": 4, "ffn_dim": 32, "num_queries": 5, "decoder_layers": 1}
    return build(ModelCard("setmatch_n", shape, NAMES))


def test_a_hook_may_convert_what_a_model_gets():
    """The check of types is for batches that nothing converts."""
    model = tiny().double().eval()
    batch = sm.Batch.from_images([torch.zeros(3, 64, 64)])
    with pytest.raises(ConfigError, match="the images are float32"):
        model(batch)
    model.register_forward_pre_hook(
        lambda _, given: (replace(given[0], pixels=given[0].pixels.double()), *given[1:])
    )
    assert model(batch)[0].predictions.cxcywh.isfinite().all()


BATCH = sm.Batch.from_images([torch.zeros(3, 64, 64)] * 2)
TARGETS = [sm.Target(ONE, BOX)] * 2
MODEL = tiny()
CRITERION = sm.losses.Criterion(MODEL.class_loss, RECIPE.matching, RECIPE.loss)
GROUPS = MODEL.train()(BATCH, TARGETS)
LAST = GROUPS[0].predictions
NO_LAYERS = sm.PredictionGroup("x", sm.Predictions(LAST.logits[:0], LAST.cxcywh[:0]))
OTHER_IMAGES = sm.PredictionGroup("x", sm.Predictions(LAST.logits[:, :1], LAST.cxcywh[:, :1]))
match, of = sm.losses.match, LossNormalizer.of
parts = (RECIPE.matching, RECIPE.loss)
CALLS: dict[str, Callable[[], Any]] = {
    "model: images elsewhere": lambda: MODEL(BATCH.to("meta"), TARGETS),
    "model: double images": lambda: MODEL(replace(BATCH, pixels=BATCH.pixels.double()), TARGETS),
    "model: targets elsewhere": lambda: MODEL(BATCH, [TARGETS[0].to("meta")] * 2),
    "detect: a tensor": lambda: MODEL.detect(BATCH.pixels, [(64, 64)] * 2),
    "detect: one size": lambda: MODEL.detect(BATCH, [(64, 64)]),
    "detect: a bare size": lambda: MODEL.detect(BATCH, (64, 64)),
    "detect: no sizes": lambda: MODEL.detect(BATCH, None),
    "detect: a tensor of sizes": lambda: MODEL.detect(BATCH, torch.full((2, 2), 64)),
    "detect: three sides": lambda: MODEL.detect(BATCH, [(64, 64, 3)] * 2),
    "detect: sizes of nothing": lambda: MODEL.detect(BATCH, [(0, 64)] * 2),
    "criterion: targets elsewhere": lambda: CRITERION(GROUPS, [TARGETS[0].to("meta")] * 2),
    "criterion: swapped": lambda: CRITERION(TARGETS, GROUPS),
    "criterion: a number to divide by": lambda: CRITERION(GROUPS, TARGETS, 8),
    "criterion: no layers": lambda: CRITERION([NO_LAYERS], TARGETS),
    "criterion: other images": lambda: CRITERION([GROUPS[0], OTHER_IMAGES], TARGETS),
    "Criterion: a word": lambda: sm.losses.Criterion("focal", *parts),
    "Criterion: a class": lambda: sm.losses.Criterion(sm.losses.Focal, *parts),
    "Criterion: swapped": lambda: sm.losses.Criterion(MODEL.class_loss, *parts[::-1]),
    "Criterion: the recipe": lambda: sm.losses.Criterion(MODEL.class_loss, RECIPE, RECIPE),
    "Criterion: dictionaries": lambda: sm.losses.Criterion(MODEL.class_loss, {"l1": 1}, {"l1": 1}),
    "Criterion: a function": lambda: sm.losses.Criterion(MODEL.class_loss, *parts, (len,)),
    "Criterion: one term": lambda: sm.losses.Criterion(
        MODEL.class_loss, *parts, sm.losses.TERMS[0]
    ),
    "Criterion: no terms": lambda: sm.losses.Criterion(MODEL.class_loss, *parts, ()),
    "Criterion: terms twice": lambda: sm.losses.Criterion(
        MODEL.class_loss, *parts, sm.losses.TERMS * 2
    ),
    "match: one layer": lambda: match(
        LAST.logits[0], LAST.cxcywh[0], TARGETS, MODEL.class_loss, RECIPE.matching
    ),
    "match: too few targets": lambda: match(
        LAST.logits, LAST.cxcywh, TARGETS[:1], MODEL.class_loss, RECIPE.matching
    ),
    "match: a class too many": lambda: match(
        LAST.logits, LAST.cxcywh, [sm.Target(ONE + 3, BOX)] * 2, MODEL.class_loss, RECIPE.matching
    ),
    "match: costs": lambda: match(LAST.logits, LAST.cxcywh, TARGETS, MODEL.class_loss, {"l1": 1}),
    "match: loss": lambda: match(LAST.logits, LAST.cxcywh, TARGETS, "focal", RECIPE.matching),
    "counts: a number": lambda: of(3, 5),
    "counts: dictionaries": lambda: of([{"boxes": BOX}], 5),
    "counts: no queries": lambda: of(TARGETS, None),
    "above: percent": lambda: sm.Detections(**RIGHT[sm.Detections]).above(50),
    "above: a text": lambda: sm.Detections(**RIGHT[sm.Detections]).above("0.5"),
    "above: too few": lambda: sm.Detections(**RIGHT[sm.Detections]).above(torch.tensor([0.5])),
    "filter: percent": lambda: sm.Detections(**RIGHT[sm.Detections]).filter(score=50),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_wrong_call_of_a_loop_is_one_sentence(call: Callable[[], Any]):
    with pytest.raises(SetmatchError) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


ROW = {"bbox": [1, 2, 3, 4], "score": 0.5, "category_id": 1}
ROWS: list[Any] = [
    3,
    None,
    ROW,
    [3],
    [ROW | {"category_id": 9}],
    [ROW | {"bbox": [1, 2, 3]}],
    [ROW | {"bbox": [1, 2, "3", 4]}],
    [ROW | {"bbox": [1, 2, float("nan"), 4]}],
    [ROW | {"bbox": [1, 2, -3, 4]}],
    [ROW | {"score": 50}],
    [ROW | {"score": None}],
    [{"bbox": [1, 2, 3, 4]}],
]
BOXES = {"boxes": torch.rand(1, 4).cumsum(1), "scores": torch.ones(1), "labels": ONE + 1}
OUTPUTS: list[Any] = [
    None,
    [BOXES],
    {"boxes": BOXES["boxes"]},
    BOXES | {"labels": ONE + 9},
    BOXES | {"scores": torch.tensor([1.5])},
    BOXES | {"boxes": torch.rand(2, 4)},
]


@pytest.mark.parametrize("rows", ROWS, ids=str)
def test_rows_that_are_no_results_are_refused(rows: Any):
    with pytest.raises(DataError):
        sm.Detections.from_dicts(rows, NAMES, (8, 8))


@pytest.mark.parametrize("output", OUTPUTS, ids=range(len(OUTPUTS)))
def test_what_is_no_output_of_torchvision_is_refused(output: Any):
    assert len(sm.Detections.from_torchvision(BOXES, NAMES, (8, 8))) == 1
    with pytest.raises(DataError):
        sm.Detections.from_torchvision(output, NAMES, (8, 8))


class Detects(type(MODEL)):  # type: ignore[misc]  # a detector of a user's own
    """A detector that returns given detections."""

    def __init__(self, **wrong: Any) -> None:
        torch.nn.Module.__init__(self)
        self.card, self.wrong = MODEL.card, wrong

    def detect(self, batch: sm.Batch, sizes_px: Any) -> ModelOutput:
        right = RIGHT[sm.Detections] | {"masks": None}
        return ModelOutput([sm.Detections(**right | self.wrong)] * len(sizes_px), None)


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ({"xyxy_px": torch.tensor([[5.0, 5.0, 2.0, 2.0]])}, "ends before it begins"),
        ({"scores": torch.tensor([2.5])}, "not between 0 and 1"),
        ({"scores": torch.tensor([-2.5])}, "not between 0 and 1"),
        ({"classes": ONE + 3}, "class indices are 0 to 2"),
        ({"classes": ONE - 1}, "class indices are 0 to 2"),
        ({"scores": torch.tensor([float("nan")])}, "not finite"),
        ({"xyxy_px": torch.tensor([[5.0, 5.0, float("inf"), 9.0]])}, "not finite"),
    ],
)
def test_wrong_values_of_a_detector_of_ones_own_are_said(wrong: dict[str, Tensor], what: str):
    engine = EagerEngine(Detects().eval())
    assert engine.detect(BATCH, [(8, 8)] * 2).detections[0].classes.tolist() == [0]
    with pytest.raises(SetmatchError, match=what):
        EagerEngine(Detects(**wrong).eval()).detect(BATCH, [(8, 8)] * 2)


class Reads(TorchDispatchMode):
    """Counts how often a value is read from a tensor, for which a device must be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):
        self.count += "_local_scalar_dense" in str(function)
        return function(*args, **kwargs or {})


def test_a_step_reads_no_value_to_check_what_it_is_given():
    """Batches, predictions and targets that were made before are checked by their shapes."""
    counts = LossNormalizer.of(TARGETS, 5)
    with Reads() as reads:
        made = [sm.PredictionGroup(each.name, replace(each.predictions)) for each in GROUPS[:2]]
        moved = [each.to("cpu") for each in TARGETS]
        replace(BATCH).to("cpu")
        MODEL(BATCH, moved)
        CRITERION(made, moved, counts)
    assert reads.count == 0
