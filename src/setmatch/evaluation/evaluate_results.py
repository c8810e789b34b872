"""Saved detections against annotated images: a file of COCO results, or what `predict` wrote."""

import json as json_format
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
import numpy as np
from jaxtyping import Int64

from setmatch.data.dataset import DetectionDataset
from setmatch.data.formats.columns import Records, short
from setmatch.data.open import open_dataset
from setmatch.data.ragged import unpack
from setmatch.errors import DataError
from setmatch.evaluation.metrics.average_precision import Results
from setmatch.evaluation.metrics.per_layer import PerLayerDetections
from setmatch.evaluation.outputs import Outputs
from setmatch.evaluation.results import Report
from setmatch.evaluation.summarize import COCO_LIMIT, build_report, overfull, require_objects

_LOW = 0.1  # detections above a threshold for display alone have none that score so little


class _Row(msgspec.Struct, gc=False):
    """A detection; absent keys are None."""

    image_id: Any = None
    category_id: Any = None
    bbox: Any = None
    score: Any = None
    file_name: Any = None
    category_name: Any = None


def holds_detections(model: str | Path) -> bool:
    """Say whether a path can only mean saved detections: no weights lie in a JSON file."""
    return Path(model).suffix.lower() == ".json"


def evaluate_saved(
    found: str | Path,
    data: str | Path | DetectionDataset,
    *,
    split: str = "val",
    max_detections: int | None = None,
    json: str | Path | None = None,
    detections: str | Path | None = None,
    report: str | Path | None = None,
) -> Report:
    """Measure saved detections as `evaluate` measures a model; there are no decoder layers to tell.

    `found` is a file that `evaluate` or `predict` wrote, or any list of COCO results. COCO counts
    the 100 best detections of a class in an image, or all where an image holds more objects.
    Raises DataError for data or detections that cannot be read or do not belong together, and
    ConfigError for outputs that cannot be written.
    """
    outputs = Outputs(json, detections, report)
    outputs.require_writable()
    index = data if isinstance(data, DetectionDataset) else open_dataset(data, split)
    if report:
        require_objects(index)
    results = Results.joined([read_detections(Path(found), index)])
    _, per_image = np.unique(results.image_ids, return_counts=True)
    limit = max(COCO_LIMIT, int(per_image.max(initial=0))) if overfull(index) else COCO_LIMIT
    return build_report(
        index,
        PerLayerDetections((results,)),
        outputs,
        limit=limit if max_detections is None else max_detections,
        unknown=(),
        name=str(found),
        notes=tuple(_notes(results, index)),
    )


def _notes(results: Results, index: DetectionDataset) -> Iterator[str]:
    """Say what makes the numbers lower than the model that gave the detections deserves."""
    without = len(index) - int(np.isin(index.image_ids, results.image_ids).sum())
    if without:
        yield f"{without} of {len(index)} images have no detection at all"
    least = float(results.scores.min(initial=1))
    if len(results) and least > _LOW:
        yield f"No detection scores below {least:.2f}: was there a threshold? AP counts low scores"


def read_detections(path: Path, index: DetectionDataset) -> Results:
    """Read detections of the images of `index` from a JSON list of COCO results.

    Where they have file names and class names, as `predict` writes them, those count instead of
    ids; what is found of classes that the data set does not have is left out, as with a model.
    Raises DataError that names the file, the detection, and what is wrong with it.
    """
    rows = _parsed(path)
    scores, xywh_px = rows.numbers("score"), rows.quadruples("bbox")
    for position in np.flatnonzero(~((scores >= 0) & (scores <= 1)))[:1].tolist():
        value = rows.values("score")[position]
        problem = "has no 'score'" if value is None else f"'score' is {short(value)}"
        raise rows.error(position, f"{problem}; it should be a number from 0 to 1")
    whole = np.isfinite(xywh_px).all(axis=1) & (xywh_px[:, 2:] >= 0).all(axis=1)
    for position in np.flatnonzero(~whole)[:1].tolist():
        value = short(rows.values("bbox")[position])
        raise rows.error(
            position, f"'bbox' is {value}; it should be x, y, width, height in pixels, finite"
        )
    class_indices = _slots(rows, index)
    return Results(_image_ids(rows, index), class_indices, xywh_px, scores).only(class_indices >= 0)


def _parsed(path: Path) -> Records:
    try:
        text = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    try:
        return Records(path, "detections", msgspec.json.decode(text, type=list[_Row]))
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        pass  # Python's own parser also takes NaN, and says in words what it refuses
    try:
        tree = json_format.loads(text)
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: not valid JSON, perhaps cut short ({reason})") from None
    if not isinstance(tree, list):
        keys = f" with {', '.join(map(repr, list(tree)[:4]))}" if isinstance(tree, dict) else ""
        raise DataError(
            f"{path}: holds a {type(tree).__name__}{keys}, not a list of detections; give a file "
            "that `setmatch evaluate --detections` or `setmatch predict` wrote, or COCO results"
        )
    return Records.of(path, {"detections": tree}, "detections", _Row)


def _image_ids(rows: Records, index: DetectionDataset) -> Int64[np.ndarray, " D"]:
    if not _named(rows, "file_name"):
        ids = rows.integers("image_id").values
        for position in np.flatnonzero(~np.isin(ids, index.image_ids))[:1].tolist():
            raise rows.error(position, f"image_id {ids[position]} is not in {index.source}")
        return ids
    names = unpack(index.names, index.name_offsets)
    image_of = dict(zip(names, range(len(names)), strict=True))
    alone = Counter(PurePosixPath(name).name for name in names)
    image_of |= {
        last: image
        for image, last in enumerate(PurePosixPath(name).name for name in names)
        if alone[last] == 1
    }
    images = []
    for position, name in enumerate(rows.texts("file_name")):
        image = image_of.get(name, image_of.get(PurePosixPath(name).name))
        if image is None:
            raise rows.error(position, f"picture {short(name)} is not in {index.source}")
        images.append(image)
    return index.image_ids[np.array(images, dtype=np.int64)]


def _slots(rows: Records, index: DetectionDataset) -> Int64[np.ndarray, " D"]:
    """Return the slot of every detection's class, -1 for a name that the data set does not have."""
    if not _named(rows, "category_name"):
        class_index_of = {
            category: class_index for class_index, category in enumerate(index.categories.ids)
        }
        class_indices = [
            class_index_of.get(each, -1) for each in rows.integers("category_id").values.tolist()
        ]
        for position in [row for row, class_index in enumerate(class_indices) if class_index < 0][
            :1
        ]:
            known = ", ".join(map(str, index.categories.ids[:10]))
            value = rows.values("category_id")[position]
            raise rows.error(
                position, f"category_id {value} is not in {index.source}, whose ids are {known}"
            )
        return np.array(class_indices, dtype=np.int64)
    named = {name: class_index for class_index, name in enumerate(index.categories.names)}
    class_indices = [named.get(name, -1) for name in rows.texts("category_name")]
    if class_indices and max(class_indices) < 0:
        raise DataError(
            f"{rows.file}: no class in common with {index.source}; it finds such as "
            f"{short(rows.values('category_name')[0])}"
        )
    return np.array(class_indices, dtype=np.int64)


def _named(rows: Records, key: str) -> bool:
    """Say whether the file names things; its first row tells, as one writer wrote all of them."""
    return len(rows) > 0 and rows.values(key)[0] is not None
