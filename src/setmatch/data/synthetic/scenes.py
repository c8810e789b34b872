"""Generate a data set: shapes on textured backgrounds, with occlusion and clutter, as COCO files.

Nothing is downloaded, and a seed gives the same images on any number of processes.
"""

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int16, UInt8
from numpy.typing import NDArray
from PIL import Image

from setmatch.data.annotations.write_panoptic import (
    panoptic_record,
    write_panoptic_json,
    write_png,
)
from setmatch.data.images.writing import write_image
from setmatch.data.synthetic.shapes import Cutout, draw_cutout, paste
from setmatch.data.synthetic.textures import (
    CLASSES,
    STUFF,
    Canvas,
    clutter,
    landscape,
    textured_background,
)
from setmatch.errors import ConfigError, DataError
from setmatch.structures.metadata import Categories
from setmatch.structures.segments import Segments

LANDSCAPE = Categories(
    tuple(range(1, len(CLASSES) + len(STUFF) + 1)),
    (*CLASSES, *STUFF),
    frozenset(range(len(CLASSES), len(CLASSES) + len(STUFF))),
)

_TRIES = 12  # places tried before an object is given up
_MIN_VISIBLE = 0.55  # visible fraction of an object
_MIN_AREA_PX = 24


@dataclass(frozen=True)
class Difficulty:
    """How hard the objects of a scene are to detect."""

    most_objects: int = 8
    # Range of object radii as fractions of the image side, log-uniform: many objects are small.
    radius: tuple[float, float] = (0.055, 0.27)
    classes: tuple[str, ...] = CLASSES
    cluttered: bool = True
    colored: bool = False  # True gives each class a hue of its own


USUAL = Difficulty()
EASY = Difficulty(3, (0.16, 0.3), ("circle", "square", "triangle"), cluttered=False, colored=True)


@dataclass(frozen=True, eq=False)
class Scene:
    """An image and its objects: class indices, and tight boxes of their visible pixels."""

    pixels: UInt8[np.ndarray, "H W 3"]
    classes: tuple[int, ...]
    xywh_px: tuple[tuple[int, int, int, int], ...]
    visible_px: tuple[int, ...]
    owner: Int16[np.ndarray, "H W"]  # number of the object at each pixel; -1 for the background


def write_scenes(
    out: Path,
    train: int,
    val: int,
    size_px: int,
    seed: int,
    workers: int,
    difficulty: Difficulty = USUAL,
    panoptic: bool = False,
) -> None:
    """Write scenes of `size_px` × `size_px` pixels as COCO: annotations/{train,val}.json, images/.

    `panoptic` scenes show a landscape. Their objects have masks, and every pixel is annotated in
    annotations/panoptic_{train,val}.json, with PNG files in a folder of the same name. `workers`
    processes paint the scenes (0: this one); their number changes only the time. Raises ConfigError
    for images below 32 pixels or empty splits, and DataError when `out` cannot be written.
    """
    if size_px < 32 or train < 1 or val < 1:
        raise ConfigError(
            f"scenes of {size_px} px, {train} for training and {val} for validation: use at least "
            "32 px and one image of each"
        )
    try:
        for folder in ("annotations", "images"):
            (out / folder).mkdir(parents=True, exist_ok=True)
        for number, (split, count) in enumerate((("train", train), ("val", val))):
            write = _write_landscape if panoptic else _write
            paint = partial(write, out, split, size_px, (seed, number), difficulty)
            scenes = _painted(paint, count, workers)
            if panoptic:
                path = out / "annotations" / f"panoptic_{split}.json"
                segments = [record.segments for record in scenes]
                write_panoptic_json(path, _listed(size_px, scenes), segments, LANDSCAPE)
            # Last, so that an interrupted data set does not look complete.
            (out / "annotations" / f"{split}.json").write_text(
                json.dumps(_coco(size_px, scenes, difficulty))
            )
    except OSError as error:
        raise DataError(f"{out}: cannot be written ({error.strerror or error})") from None


def scene(seed: tuple[int, ...], size_px: int, difficulty: Difficulty = USUAL) -> Scene:
    """Paint the scene of a seed."""
    rng = np.random.default_rng(seed)
    return _with_objects(rng, textured_background(rng, size_px), difficulty)


def landscape_scene(
    seed: tuple[int, ...], size_px: int, difficulty: Difficulty = USUAL
) -> tuple[Scene, Segments]:
    """Paint the landscape scene of a seed, and return all its segments.

    Objects come first, in their order, then the visible parts of the landscape.
    """
    rng = np.random.default_rng(seed)
    canvas, kinds = landscape(rng, size_px)
    painted = _with_objects(rng, canvas, difficulty)
    stuff = np.where(painted.owner < 0, kinds, -1)
    visible = np.unique(stuff[stuff >= 0])
    count = len(painted.classes)
    ids = np.where(stuff < 0, painted.owner, count + np.searchsorted(visible, stuff)) + 1
    class_indices = [*painted.classes, *(len(CLASSES) + kind for kind in visible.tolist())]
    segments = Segments(
        torch.from_numpy(ids.astype(np.int32)),
        torch.tensor(class_indices, dtype=torch.int64),
        torch.ones(len(class_indices)),
        LANDSCAPE,
    )
    return painted, segments


def _with_objects(rng: np.random.Generator, canvas: Canvas, difficulty: Difficulty) -> Scene:
    if difficulty.cluttered:
        canvas = clutter(rng, canvas)
    size_px = len(canvas)
    owner = np.full((size_px, size_px), -1, dtype=np.int16)
    classes: list[int] = []
    drawn_px: list[int] = []
    for _ in range(int(rng.integers(1, difficulty.most_objects + 1))):
        for _ in range(_TRIES):
            class_index = int(rng.integers(len(difficulty.classes)))
            cutout = draw_cutout(rng, difficulty.classes[class_index], size_px, difficulty.radius)
            area = int(cutout.covered.sum())
            if area >= _MIN_AREA_PX and _leaves_others_visible(owner, cutout, drawn_px):
                paste(rng, canvas, cutout, _hue(class_index, difficulty))
                owner[cutout.window][cutout.covered] = len(classes)
                classes.append(class_index)
                drawn_px.append(area)
                break
    noise = rng.normal(0, rng.uniform(1, 6), canvas.shape)
    pixels = np.clip(canvas + noise, 0, 255).astype(np.uint8)
    boxes = tuple(_box(owner == number) for number in range(len(classes)))
    visible = tuple(np.bincount(owner[owner >= 0], minlength=len(classes)).tolist())
    return Scene(pixels, tuple(classes), boxes, visible, owner)


def _hue(class_index: int, difficulty: Difficulty) -> float | None:
    return class_index / len(difficulty.classes) if difficulty.colored else None


def _leaves_others_visible(
    owner: Int16[np.ndarray, "H W"], cutout: Cutout, drawn_px: list[int]
) -> bool:
    if not drawn_px:
        return True
    hidden = owner.copy()
    hidden[cutout.window][cutout.covered] = -1
    visible = np.bincount(hidden[hidden >= 0], minlength=len(drawn_px))
    return bool((visible >= np.maximum(_MIN_VISIBLE * np.array(drawn_px), _MIN_AREA_PX)).all())


def _box(visible: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Return the tight box (x, y, width, height) around a mask's true pixels."""
    (y0, y1), (x0, x1) = (
        (int(hits[0]), int(hits[-1]) + 1)
        for hits in (np.flatnonzero(visible.any(axis=axis)) for axis in (1, 0))
    )
    return x0, y0, x1 - x0, y1 - y0


def _painted(paint: "partial[_Record]", count: int, workers: int) -> list["_Record"]:
    if workers < 1:
        return list(map(paint, range(count)))
    with ProcessPoolExecutor(workers) as pool:
        return list(pool.map(paint, range(count), chunksize=max(count // (8 * workers), 1)))


@dataclass(frozen=True)
class _Record:
    """The annotations of a written image; `segments` only for a landscape scene."""

    name: str
    objects: tuple[dict[str, Any], ...]
    segments: Mapping[str, Any] = field(default_factory=dict)


def _write(
    out: Path, split: str, size_px: int, seed: tuple[int, int], difficulty: Difficulty, number: int
) -> _Record:
    """Paint and save an image; return its name and objects, without the pixels."""
    painted = scene((*seed, number), size_px, difficulty)
    return _Record(_save(out, split, number, painted), tuple(_objects(painted)))


def _write_landscape(
    out: Path, split: str, size_px: int, seed: tuple[int, int], difficulty: Difficulty, number: int
) -> _Record:
    """Paint and save an image and its PNG of segments; the objects have run lengths."""
    painted, segments = landscape_scene((*seed, number), size_px, difficulty)
    name = _save(out, split, number, painted)
    png = f"{Path(name).stem}.png"
    write_png(out / "annotations" / f"panoptic_{split}" / png, segments.to_pixels())
    runs = segments.masks().to_coco()
    objects = [
        each | {"segmentation": run} for each, run in zip(_objects(painted), runs, strict=False)
    ]
    return _Record(name, tuple(objects), panoptic_record(number + 1, png, segments.to_dicts()))


def _save(out: Path, split: str, number: int, painted: Scene) -> str:
    name = f"{split}_{number:06d}.jpg"
    image, path = Image.fromarray(painted.pixels), out / "images" / name
    write_image(path, image, "JPEG", durable=False, quality=92, subsampling=0)
    return name


def _objects(painted: Scene) -> Iterator[dict[str, Any]]:
    columns = (painted.classes, painted.xywh_px, painted.visible_px)
    for class_index, box, area in zip(*columns, strict=True):
        yield {"category_id": class_index + 1, "bbox": list(box), "area": area, "iscrowd": 0}


def _coco(size_px: int, records: list[_Record], difficulty: Difficulty) -> dict[str, Any]:
    annotations = [
        {"image_id": number} | each
        for number, record in enumerate(records, 1)
        for each in record.objects
    ]
    return {
        "images": _listed(size_px, records),
        "categories": [
            {"id": class_index, "name": name}
            for class_index, name in enumerate(difficulty.classes, 1)
        ],
        "annotations": [{"id": number} | row for number, row in enumerate(annotations, 1)],
    }


def _listed(size_px: int, records: list[_Record]) -> list[dict[str, Any]]:
    return [
        {"id": number, "file_name": record.name, "height": size_px, "width": size_px}
        for number, record in enumerate(records, 1)
    ]
