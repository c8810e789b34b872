"""Objects in folders of pictures, as a folder of results."""

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
from setmatch.inference.engines.eager import inference_mode, progress_bar
from setmatch.inference.pipeline import PredictOptions, find
from setmatch.models.detector import Detector
from setmatch.structures.segments import Segments

_FORMATS = (".jpg", ".jpeg", ".png", ".webp")  # others are written as PNG


@dataclass(frozen=True)
class Summary:
    """What `predict_folder` did; `failed` names each picture that gave no answer, and why."""

    out: Path
    images: int
    detections: int
    failed: tuple[tuple[Path, str], ...]


def predict_folder(
    model: Detector,
    sources: Sequence[str | Path],
    out: str | Path,
    threshold: float | None = None,
    *,
    segment_threshold: float | None = None,
    batch_size: int = 4,
    progress: bool = True,
) -> Summary:
    """Find objects in files, folders and globs, and write what was found to the folder `out`.

    `out` then holds pictures/ (annotated, in the sources' own folders), detections.json (COCO
    results, image ids counted from 1, with category_name and file_name) and detections.csv (boxes
    in pixels), all with what scores more than `threshold` (default: 0.7, as published, where "no
    object" is an answer, else 0.5). From a model with a mask head there are masks in
    detections.json as COCO's run lengths, and COCO panoptic results: panoptic.json and panoptic/, a
    PNG for each picture, merged from what scores more than `segment_threshold`.
    Every file appears whole or not at all. A picture that cannot be read is named in the summary
    and stops no other; where none can be, no file is written. Raises ConfigError for thresholds or
    a batch that cannot be, DataError when a source holds no image, WeightsError when the model's
    answers are not finite.
    """
    threshold = model.default_threshold if threshold is None else threshold
    terms = PredictOptions(threshold, segment_threshold, batch_size)
    require_folder(out)
    out = _absolute(Path(out))
    # What an earlier run has drawn into a folder of pictures is not a picture to be read.
    paths = [path for path in find_images(sources) if out not in _absolute(path).parents]
    if not paths:
        raise DataError(f"no picture to look at: all of {len(sources)} sources lie in {out}")
    root = Path(os.path.commonpath([_absolute(path).parent for path in paths]))
    names = [_absolute(path).relative_to(root) for path in paths]
    drawn = _picture_names(names)
    rows: dict[int, list[dict[str, Any]]] = {}
    pictures: list[Mapping[str, Any]] = []
    panoptic: list[Mapping[str, Any]] = []
    failed: dict[int, str] = {}
    with inference_mode(model), progress_bar("predicting", len(paths), progress) as advance:
        for number, found in find(model, len(paths), lambda n: read_image(paths[n]), terms):
            if isinstance(found, DataError):
                failed[number] = str(found)
            else:
                _write_picture(out / "pictures" / drawn[number], found.draw())
                which = {"image_id": number + 1, "file_name": names[number].as_posix()}
                rows[number] = [which | row for row in found.to_dicts()]
                if found.segments is not None:
                    png = names[number].with_name(f"{names[number].name}.png")
                    write_png(out / "panoptic" / png, found.segments)
                    pictures.append(_listing(number + 1, names[number], found.segments))
                    panoptic.append(panoptic_record(number + 1, png.as_posix(), found.segments))
            advance(1)
    if panoptic:
        write_panoptic_json(out / "panoptic.json", pictures, panoptic, model.card.categories)
    table = [row for number in sorted(rows) for row in rows[number]]
    if rows:  # else an empty list would say that pictures were looked at
        _write_json(out / "detections.json", table)
        _write_csv(out / "detections.csv", table)
    return Summary(out, len(rows), len(table), tuple((paths[n], failed[n]) for n in sorted(failed)))


def _absolute(path: Path) -> Path:
    # Unlike Path.absolute it takes out "..", which would lead out of the folder of results.
    return Path(os.path.abspath(path))


def _listing(image_id: int, name: Path, segments: Segments) -> Mapping[str, Any]:
    height, width = segments.size_px
    return {"id": image_id, "file_name": name.as_posix(), "height": height, "width": width}


def _picture_names(names: Sequence[Path]) -> list[Path]:
    """Return where each picture is drawn: under its own name, or as the PNG of no other's name."""
    taken, chosen = set(names), []
    for name in names:
        if name.suffix.lower() not in _FORMATS:
            name = name.with_name(f"{name.name}.png")
            while name in taken:
                name = name.with_name(f"{name.stem}_.png")
        chosen.append(name)
    return chosen


def _write_picture(path: Path, picture: Image.Image) -> None:
    with atomic_file(path) as aside:
        picture.save(aside, quality=92)


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
