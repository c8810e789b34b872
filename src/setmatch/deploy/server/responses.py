"""The responses of a server, as JSON: the models that the OpenAPI document describes."""

import io
from typing import Literal

from pydantic import BaseModel, Field

from setmatch.deploy.server.limits import Refusal
from setmatch.inference.engines.base import Engine
from setmatch.inference.pipeline import ImageResult
from setmatch.structures.packed_masks import PackedMasks

_JPEG_QUALITY = 92
_JPEG_SIDE_PX = 65_500  # the most that encoders write


class Mask(BaseModel):
    """A mask as compressed COCO RLE, which pycocotools and others decode."""

    size: tuple[int, int] = Field(description="Height and width of the image, in pixels.")
    counts: str


class DetectedObject(BaseModel):
    """A detected object."""

    name: str = Field(description="Its class.")
    category_id: int = Field(description="Id of its class, as in the annotations of training.")
    score: float = Field(ge=0, le=1, description="Rounded to five digits.")
    xyxy_px: tuple[float, float, float, float] = Field(
        description="Left, top, right and bottom side of its box, in pixels of the upright image, "
        "rounded to thousandths."
    )
    mask: Mask | None = Field(None, description="None from a model without masks.")


class DetectionResponse(BaseModel):
    """The detections in an image, best first."""

    model: str
    width: int = Field(description="Of the image, upright, in pixels.")
    height: int
    detections: list[DetectedObject]


class ObjectClass(BaseModel):
    """A class that the model knows."""

    name: str
    category_id: int


class ModelFacts(BaseModel):
    """The model, and what the server accepts."""

    model: str
    preset: str
    source: str
    license: str
    classes: list[ObjectClass]
    threshold: float = Field(
        description="Default threshold: predictions that score more are detections."
    )
    has_best_thresholds: bool = Field(description="Whether `threshold=best` is available.")
    has_masks: bool
    engine: str
    max_bytes: int = Field(description="Of a request.")
    max_pixels: int = Field(description="Of an image.")
    version: str = Field(description="Of setmatch.")


class Health(BaseModel):
    """The server is running."""

    status: Literal["ok"] = "ok"


class Problem(BaseModel):
    """Why a request failed, in one sentence."""

    error: str


def to_json(result: ImageResult, model: str) -> bytes:
    """Return the detections in an image as JSON."""
    return detection_response(result, model).model_dump_json(exclude_none=True).encode()


def to_jpeg(result: ImageResult) -> bytes:
    """Return the image with its detections drawn on it; raises Refusal for one too long."""
    height, width = result.size_px
    if max(height, width) > _JPEG_SIDE_PX:
        raise Refusal(
            422,
            f"the image has {width}×{height} pixels (width × height), and a JPEG at most "
            f"{_JPEG_SIDE_PX} along a side: leave out annotated",
        )
    file = io.BytesIO()
    result.draw().save(file, "JPEG", quality=_JPEG_QUALITY)
    return file.getvalue()


def detection_response(result: ImageResult, model: str) -> DetectionResponse:
    """Return the response for the detections in an image."""
    height, width = result.size_px
    masks = _masks(result.masks, len(result))
    columns = (result.classes, result.scores, result.xyxy_px)
    rows = zip(*(each.tolist() for each in columns), masks, strict=True)
    categories = result.categories
    return DetectionResponse(
        model=model,
        width=width,
        height=height,
        detections=[
            DetectedObject(
                name=categories.name(index),
                category_id=categories.ids[index],
                score=round(score, 5),
                xyxy_px=(round(x0, 3), round(y0, 3), round(x1, 3), round(y1, 3)),
                mask=mask,
            )
            for index, score, (x0, y0, x1, y1), mask in rows
        ],
    )


def _masks(masks: PackedMasks | None, count: int) -> list[Mask | None]:
    if masks is None:
        return [None] * count
    return [Mask.model_validate(each) for each in masks.to_coco()]


def classes_of(engine: Engine) -> list[ObjectClass]:
    """Return the classes that a model knows."""
    categories = engine.card.categories
    return [
        ObjectClass(name=categories.name(index), category_id=categories.ids[index])
        for index in range(len(categories))
    ]
