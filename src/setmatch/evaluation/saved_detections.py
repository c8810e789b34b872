"""Read saved detections: a file of COCO results, or what `predict_folder` wrote."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from jaxtyping import Float64, Int64

from setmatch.data.annotations.box_convention import XYWH_PX
from setmatch.data.annotations.misread_boxes import WrittenBoxes, doubt_convention
from setmatch.data.dataset import DetectionDataset
from setmatch.data.formats.class_names import clean_name
from setmatch.data.formats.columns import Records
from setmatch.data.formats.repeated_keys import refuse_repeated_keys
from setmatch.errors import DataError, quoted, short
from setmatch.evaluation.detected_images import image_ids_of
from setmatch.evaluation.metrics.coco import Results
from setmatch.evaluation.metrics.per_layer import PerLayerDetections
from setmatch.evaluation.split_detections import SplitDetections
from setmatch.files.reading import read_json

_LOW_SCORE = 0.1  # if no detection scores less, a threshold was probably applied


class _Row(msgspec.Struct, gc=False):
    """A detection; keys that the file does not have are None."""

    image_id: Any = None
    category_id: Any = None
    bbox: Any = None
    score: Any = None
    file_name: Any = None
    category_name: Any = None


def is_saved_detections(path: str | Path) -> bool:
    """Return whether a path names saved detections: a JSON file, which cannot hold weights."""
    return Path(path).suffix.lower() == ".json"


def load_detections(path: Path, dataset: DetectionDataset, name: str = "") -> SplitDetections:
    """Read saved detections to measure them on a data set; `name` defaults to the path.

    Raises DataError as `read_detections` does.
    """
    read, reading_notes = _read(path, dataset)
    results = Results.concatenate([read])
    _, per_image = np.unique(results.image_ids, return_counts=True)
    return SplitDetections(
        name or str(path),
        PerLayerDetections((results,)),
        int(per_image.max(initial=0)),
        notes=(*reading_notes, *_notes(results, dataset)),
    )


def _notes(results: Results, dataset: DetectionDataset) -> Iterator[str]:
    """Yield what may have made the numbers lower than those of the model."""
    empty = len(dataset) - int(np.isin(dataset.image_ids, results.image_ids).sum())
    if empty:
        yield f"{empty} of {len(dataset)} images have no detection at all"
    lowest = float(results.scores.min(initial=1))
    if len(results) and lowest > _LOW_SCORE:
        yield (
            f"No detection scores below {lowest:.2f}: was a threshold applied? "
            "AP needs low scores too"
        )


def read_detections(path: Path, dataset: DetectionDataset) -> Results:
    """Read detections of the images of a data set from a JSON list of COCO results.

    File names and class names, as `predict_folder` writes them, take precedence over ids, and ids
    may be file names without their suffix. Detections of class names that the data set does not
    have are left out. Raises DataError that names the file, the detection and the problem.
    """
    return _read(path, dataset)[0]


def _read(path: Path, dataset: DetectionDataset) -> tuple[Results, list[str]]:
    """Return the detections, and sentences on how the file was read and what was left out."""
    notes: list[str] = []
    records = _parse(path)
    scores, xywh_px = records.numbers("score"), records.quadruples("bbox")
    for row in np.flatnonzero(~((scores >= 0) & (scores <= 1)))[:1].tolist():
        value = records.values("score")[row]
        problem = "has no 'score'" if value is None else f"'score' is {short(value)}"
        raise records.error(row, f"{problem}; it should be a number from 0 to 1")
    valid = np.isfinite(xywh_px).all(axis=1) & (xywh_px[:, 2:] >= 0).all(axis=1)
    for row in np.flatnonzero(~valid)[:1].tolist():
        value = short(records.values("bbox")[row])
        raise records.error(
            row, f"'bbox' is {value}; it should be x, y, width, height in pixels, finite"
        )
    class_indices = _class_indices(records, dataset, notes)
    image_ids = image_ids_of(records, dataset, notes)
    notes += _other_convention(records, xywh_px, image_ids, dataset)
    results = Results(image_ids, class_indices, xywh_px, scores).select(class_indices >= 0)
    return results, notes


def _other_convention(
    records: Records,
    xywh_px: Float64[np.ndarray, "D 4"],
    image_ids: Int64[np.ndarray, " D"],
    dataset: DetectionDataset,
) -> list[str]:
    """Return a sentence where the boxes are probably corners, centers or fractions."""
    order = dataset.image_ids.argsort()
    image = order[np.searchsorted(dataset.image_ids[order], image_ids)]
    no_areas = np.full(len(records), np.nan)
    written = WrittenBoxes(xywh_px, XYWH_PX)
    doubt = doubt_convention(written, dataset.sizes_px[image], no_areas, records.place_of)
    if doubt is None:
        return []
    return [
        f"the boxes of {records.file} are read as x, y, width, height in pixels, but are probably "
        f"{doubt.meaning}: {doubt.evidence}; {doubt.example}; write them as COCO results do"
    ]


def _parse(path: Path) -> Records:
    try:
        content = read_json(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    try:
        records = Records(path, "detections", msgspec.json.decode(content, type=list[_Row]))
        refuse_repeated_keys(path, content, dict.fromkeys(("bbox", "score"), len(records)))
        return records
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        pass  # Python's own parser also accepts NaN, and explains what it rejects
    try:
        tree = json.loads(content)
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


def _class_indices(
    records: Records, dataset: DetectionDataset, notes: list[str]
) -> Int64[np.ndarray, " D"]:
    """Return the class index of every detection, or -1 for a name the data set does not have."""
    if not _has_key(records, "category_name"):
        index_of_id = {category: index for index, category in enumerate(dataset.categories.ids)}
        ids = records.integers("category_id").values.tolist()
        for row, category in enumerate(ids):
            if category not in index_of_id:
                known = ", ".join(map(str, dataset.categories.ids[:10]))
                value = records.values("category_id")[row]
                raise records.error(
                    row, f"category_id {value} is not in {dataset.source}, whose ids are {known}"
                )
        return np.array([index_of_id[category] for category in ids], dtype=np.int64)
    index_of_name = {
        name and clean_name(name): index for index, name in enumerate(dataset.categories.names)
    }
    names = [clean_name(name) for name in records.texts("category_name")]
    indices = np.array([index_of_name.get(name, -1) for name in names], dtype=np.int64)
    unknown = list(dict.fromkeys(name for name in names if name not in index_of_name))
    if len(indices) and indices.max() < 0:
        raise DataError(
            f"{records.file}: no class in common with {dataset.source}; the detections are of "
            f"{quoted(unknown)}, the data set has {quoted(dataset.categories.names)}"
        )
    if unknown:
        left_out = int((indices < 0).sum())
        are = "detection is" if left_out == 1 else "detections are"
        notes.append(f"{left_out} {are} left out: {dataset.source} has no class {quoted(unknown)}")
    return indices


def _has_key(records: Records, key: str) -> bool:
    """Return whether the first row has a key. One program wrote all rows, so they are alike."""
    return len(records) > 0 and records.values(key)[0] is not None
