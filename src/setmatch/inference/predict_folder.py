"""`predict_folder`: detect objects in files and folders, and write the results to a folder."""

import csv
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from setmatch.data.formats.coco.write_panoptic import (
    panoptic_record,
    write_panoptic_json,
    write_png,
)
from setmatch.data.image_io import read_image
from setmatch.data.image_paths import find_images
from setmatch.errors import DataError
from setmatch.files import atomic_file, require_folder
from setmatch.inference.engines.base import Engine
from setmatch.inference.engines.eager import as_engine
from setmatch.inference.pipeline import PredictOptions, detect_images
from setmatch.inference.progress import progress_bar
from setmatch.models.detector import Detector
from setmatch.structures.segments import Segments

_DRAWN_FORMATS = (".jpg", ".jpeg", ".png", ".webp")  # others are written as PNG


@dataclass(frozen=True)
class Summary:
    """What `predict_folder` wrote; `failed` holds each image that cannot be read, and the error."""

    out: Path
    images: int
    detections: int
    failed: tuple[tuple[Path, str], ...]


def predict_folder(
    model: Detector | Engine,
    sources: Sequence[str | Path],
    out: str | Path,
    threshold: float | None = None,
    *,
    segment_threshold: float | None = None,
    batch_size: int = 4,
    progress: bool = True,
) -> Summary:
    """Detect objects in files, folders and globs, and write the detections to the folder `out`.

    `out` then holds the detections that score more than `threshold` (default: 0.7, as published,
    for models with a "no object" class, else 0.5):

    - images/: the images with detections drawn on them, in the folders of the sources
    - detections.json: COCO results with category_name and file_name; image ids count from 1
    - detections.csv: boxes in pixels

    A model with a mask head adds masks to detections.json, as COCO run-length encodings, and COCO
    panoptic results: panoptic.json, and a PNG for each image in panoptic/. Segments are merged from
    queries that score more than `segment_threshold`.

    Every file is written completely or not at all. An image that cannot be read is listed in the
    summary; the others are processed. Raises ConfigError if a threshold or the batch size is out of
    range, DataError if a source has no image or no image can be read (nothing is written then), and
    WeightsError if the model's outputs are not finite.
    """
    engine = as_engine(model)
    threshold = engine.default_threshold if threshold is None else threshold
    options = PredictOptions(threshold, segment_threshold, batch_size)
    require_folder(out)
    out = _absolute(Path(out))
    # `out` may be inside a source folder: results of an earlier run are not inputs.
    paths = [path for path in find_images(sources) if out not in _absolute(path).parents]
    if not paths:
        raise DataError(f"no image to predict: all images of {len(sources)} sources are in {out}")
    root = Path(os.path.commonpath([_absolute(path).parent for path in paths]))
    names = [_absolute(path).relative_to(root) for path in paths]
    drawn_names = _drawn_names(names)
    rows: dict[int, list[dict[str, Any]]] = {}
    panoptic_images: list[Mapping[str, Any]] = []
    panoptic: list[Mapping[str, Any]] = []
    failed: dict[int, str] = {}
    with progress_bar("predicting", len(paths), progress) as advance:
        for number, result in detect_images(
            engine, len(paths), lambda number: read_image(paths[number]), options
        ):
            if isinstance(result, DataError):
                failed[number] = str(result)
            else:
                name = names[number]
                _write_image(out / "images" / drawn_names[number], result.draw())
                image = {"image_id": number + 1, "file_name": name.as_posix()}
                rows[number] = [image | row for row in result.to_dicts()]
                if result.segments is not None:
                    png = name.with_name(f"{name.name}.png")
                    write_png(out / "panoptic" / png, result.segments)
                    panoptic_images.append(_image_record(number + 1, name, result.segments))
                    panoptic.append(panoptic_record(number + 1, png.as_posix(), result.segments))
            advance(1)
    if not rows:
        raise DataError(
            f"none of the {len(paths)} images could be read; the first: {failed[min(failed)]}"
        )
    if panoptic:
        write_panoptic_json(
            out / "panoptic.json", panoptic_images, panoptic, engine.card.categories
        )
    table = [row for number in sorted(rows) for row in rows[number]]
    _write_json(out / "detections.json", table)
    _write_csv(out / "detections.csv", table)
    return Summary(out, len(rows), len(table), tuple((paths[n], failed[n]) for n in sorted(failed)))


def _absolute(path: Path) -> Path:
    # Path.absolute would keep "..", which could lead out of the results folder.
    return Path(os.path.abspath(path))


def _image_record(image_id: int, name: Path, segments: Segments) -> Mapping[str, Any]:
    height, width = segments.size_px
    return {"id": image_id, "file_name": name.as_posix(), "height": height, "width": width}


def _drawn_names(names: Sequence[Path]) -> list[Path]:
    """Return the file name of each drawn image.

    It is the image's own name, or that of a PNG file which differs from all other names.
    """
    taken, chosen = set(names), []
    for name in names:
        if name.suffix.lower() not in _DRAWN_FORMATS:
            name = name.with_name(f"{name.name}.png")
            while name in taken:
                name = name.with_name(f"{name.stem}_.png")
        chosen.append(name)
    return chosen


def _write_image(path: Path, image: Image.Image) -> None:
    with atomic_file(path) as aside:
        image.save(aside, quality=92)


def _write_json(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    with atomic_file(path) as aside:
        aside.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def _write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    with atomic_file(path) as aside, aside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", "category", "score", "x", "y", "width", "height"])
        writer.writerows(
            [row["file_name"], row["category_name"], row["score"], *row["bbox"]] for row in rows
        )
