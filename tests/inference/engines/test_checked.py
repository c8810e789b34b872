"""What an engine of a user's own returns is checked once, in words of its own."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jaxtyping
import pytest
import torch

import setmatch as sm
from fake_detectors import RED_OR_NOT, RedFinder, red_box_image
from setmatch.inference.engines.eager import EagerEngine, as_engine
from setmatch.inference.tiles.engine import with_tiles
from setmatch.losses.classification import ClassificationLoss, Softmax
from setmatch.structures.batch import Batch
from setmatch.structures.metadata import ModelCard, Preprocessing
from setmatch.structures.outputs import ModelOutput
from setmatch.structures.packed_masks import PackedMasks


@pytest.fixture(autouse=True)
def as_users_run_it():
    """Without the tests' own checks of types and shapes, which users do not have."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


BOX, NAN = [8.0, 8.0, 40.0, 40.0], float("nan")
CLASSES = sm.Categories((1, 2, 3), ("a", "b", "c"))


def found(images: int = 1, **wrong: Any) -> list[sm.Detections]:
    """Return two detections in each image of 64x64 pixels."""
    right: dict[str, Any] = {
        "xyxy_px": torch.tensor([BOX, BOX]),
        "scores": torch.tensor([0.9, 0.8]),
        "classes": torch.tensor([0, 1]),
        "categories": CLASSES,
        "size_px": (64, 64),
    }
    return [sm.Detections(**right | wrong)] * images


def predicted(*shape: int, value: float = 0.5) -> sm.Predictions:
    return sm.Predictions(torch.full(shape, value), torch.full((*shape[:3], 4), 0.5))


def masks(side: int) -> PackedMasks:
    return PackedMasks.pack(torch.ones(2, side, side, dtype=torch.bool))


class GivenEngine:
    """An engine that returns what it is given."""

    class_loss: ClassificationLoss = Softmax()
    num_queries, default_threshold = 5, 0.5
    has_masks, fixed_queries = False, True

    def __init__(self, output: Any) -> None:
        self.card = ModelCard("given", {}, CLASSES, Preprocessing(64, 64))
        self.output = output

    def detect(self, batch: Batch, sizes_px: Sequence[tuple[int, int]]) -> ModelOutput:
        return self.output


OTHER = sm.Categories((1,), ("a",))
WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "nothing": (lambda: None, "should be a ModelOutput"),
    "a pair": (lambda: (found(), None), "should be a ModelOutput"),
    "no detections": (lambda: ModelOutput(None, None), "list of setmatch.Detections"),
    "dictionaries": (lambda: ModelOutput([{}], None), "list of setmatch.Detections"),
    "a generator": (
        lambda: ModelOutput((each for each in found()), None),
        "list of setmatch.Detections",
    ),
    "too few": (lambda: ModelOutput([], None), r"images of \[\] px"),
    "too many": (lambda: ModelOutput(found(2), None), "in the order of sizes_px"),
    "of another image": (
        lambda: ModelOutput(found(size_px=(64, 32)), None),
        "in the order of sizes_px",
    ),
    "of other classes": (
        lambda: ModelOutput(found(categories=OTHER), None),
        "1 classes, but .* has 3",
    ),
    "masks of another size": (lambda: ModelOutput(found(masks=masks(8)), None), "masks of 8x8 px"),
    "no values": (
        lambda: ModelOutput(
            found(
                xyxy_px=torch.ones(2, 4, device="meta"),
                scores=torch.ones(2, device="meta"),
                classes=torch.zeros(2, dtype=torch.int64, device="meta"),
            ),
            None,
        ),
        "without values",
    ),
    "a score of nothing": (
        lambda: ModelOutput(found(scores=torch.tensor([NAN, 0])), None),
        "not finite",
    ),
    "endless": (
        lambda: ModelOutput(found(xyxy_px=torch.full((2, 4), torch.inf)), None),
        "not finite",
    ),
    "percent": (
        lambda: ModelOutput(found(scores=torch.tensor([90, 80.0])), None),
        "between 0 and 1",
    ),
    "an unknown class": (
        lambda: ModelOutput(found(classes=torch.tensor([0, 3])), None),
        "unknown class",
    ),
    "width, height": (
        lambda: ModelOutput(found(xyxy_px=torch.tensor([[40.0, 40, 9, 9]] * 2)), None),
        "ends before it begins",
    ),
    "predictions of other kinds": (lambda: ModelOutput(found(), (1, 2)), "as predictions"),
    "of other images": (
        lambda: ModelOutput(found(), predicted(1, 2, 5, 4)),
        "should be .layers, 1, ",
    ),
    "logits of other classes": (lambda: ModelOutput(found(), predicted(1, 1, 5, 9)), "queries, 4"),
    "no layer": (lambda: ModelOutput(found(), predicted(0, 1, 5, 4)), "should be .layers, 1, "),
    "predictions of nothing": (
        lambda: ModelOutput(found(), predicted(1, 1, 5, 4, value=NAN)),
        "finite",
    ),
}
IMAGE = torch.zeros(3, 64, 64, dtype=torch.uint8)


@pytest.mark.parametrize("tiles", [None, 64])
@pytest.mark.parametrize(("output", "what"), WRONG.values(), ids=WRONG)
def test_what_an_engine_should_not_return_is_one_sentence(
    output: Callable[[], Any], what: str, tiles: int | None
):
    with pytest.raises(sm.SetmatchError, match=what) as caught:
        sm.predict(GivenEngine(output()), IMAGE, tiles=tiles)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "right",
    [
        {"scores": torch.tensor([0.8, 0.9]), "classes": torch.tensor([1, 0])},  # worst first
        {"scores": torch.tensor([0.9, 0.8], dtype=torch.bfloat16)},
        {"xyxy_px": torch.tensor([BOX, BOX], dtype=torch.float64)},
        {"xyxy_px": torch.nn.Parameter(torch.tensor([BOX, BOX]))},
        {"classes": torch.tensor([0, 1], dtype=torch.int32)},
        {"masks": masks(64)},
    ],
)
def test_detections_of_any_type_and_order_are_written_and_drawn(right: dict[str, Any]):
    result = sm.predict(GivenEngine(ModelOutput(found(**right), None)), IMAGE)
    assert result.classes.tolist() == [0, 1]
    assert result.xyxy_px.numpy().tolist() == [BOX, BOX]
    assert [round(row["score"], 2) for row in result.to_dicts()] == [0.9, 0.8]
    result.draw()


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("card", "center"),
        ("class_loss", "softmax"),
        ("num_queries", 0),
        ("num_queries", "5"),
        ("default_threshold", 50),
        ("default_threshold", NAN),
    ],
)
def test_a_member_of_another_kind_is_named(member: str, value: Any):
    engine = GivenEngine(None)
    setattr(engine, member, value)
    with pytest.raises(sm.SetmatchError, match=f"engine GivenEngine: {member} = "):
        sm.predict(engine, IMAGE)


class OffByFive(EagerEngine):
    """Extends the engine of setmatch, as the documentation shows, with a mistake."""

    def detect(self, batch: Batch, sizes_px: Sequence[tuple[int, int]]) -> ModelOutput:
        output = super().detect(batch, sizes_px)
        moved = [replace(each, classes=each.classes + 5) for each in output.detections]
        return ModelOutput(moved, None)


def test_an_engine_that_extends_one_of_ours_is_checked_too():
    with pytest.raises(sm.SetmatchError, match="unknown class"):
        sm.predict(OffByFive(RedFinder()), red_box_image(64, 64, (8, 8, 40, 40)))


class WithoutClassLoss(RedFinder):
    """A detector with a loss of its own, as torchvision's baselines have."""

    default_threshold = 0.5

    def __init__(self) -> None:
        super().__init__()
        del self.class_loss

    def detect(self, batch: Batch, sizes_px: Sequence[tuple[int, int]]) -> ModelOutput:
        return ModelOutput(
            [found(size_px=size, categories=RED_OR_NOT)[0] for size in sizes_px], None
        )


def test_a_model_without_a_class_loss_is_seen_in_tiles():
    """Also where its tiles are the engine that a function is given, as on the command line."""
    tiles = as_engine(with_tiles(as_engine(WithoutClassLoss()), 64))
    assert (
        len(tiles.detect(Batch.from_images([torch.zeros(3, 64, 64)]), [(64, 64)]).detections) == 1
    )


@pytest.mark.parametrize("name", ["card", "class_loss", "num_queries", "default_threshold"])
def test_an_engine_without_a_member_is_refused(name: str):
    class Less(GivenEngine):
        def __getattribute__(self, asked: str) -> Any:
            if asked == name:
                raise AttributeError(name)
            return super().__getattribute__(asked)

    with pytest.raises(sm.SetmatchError, match=rf"{name} = None; it should be|is not a model"):
        sm.predict(Less(None), red_box_image(64, 64, (8, 8, 40, 40)))
