"""`predict_folder`: detect objects in files and folders, and write the results to a folder."""

import csv
import hashlib
import io
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
from setmatch.data.images.image_io import read_image
from setmatch.data.images.image_paths import find_images
from setmatch.data.images.unreadable import UnreadableError, UnreadableFile, unreadable_line
from setmatch.errors import ConfigError, DataError
from setmatch.files.folder_lock import locked
from setmatch.files.writing import atomic_file, require_folder, write_text
from setmatch.inference.engines.base import Engine
from setmatch.inference.engines.eager import as_engine
from setmatch.inference.pipeline import PredictOptions, ScoreThreshold, detect_images
from setmatch.inference.progress import progress_bar
from setmatch.models.detector import Detector
from setmatch.structures.segments import Segments

_DRAWN_FORMATS = {  # others are written as PNG
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
}
# Not "images": in the folder of a data set, that would replace its own images.
DRAWN = "drawn"
RESULTS = ("detections.json", "detections.csv", "panoptic.json")  # the last one with masks
_NAME_BYTES = 255
# The last four are the full-width forms of the first four.
_FORMULA_STARTS = (*"=+-@\t\r\n'", "\uff1d", "\uff0b", "\uff0d", "\uff20")


@dataclass(frozen=True)
class Summary:
    """What `predict_folder` wrote; `failed` holds each image that cannot be read, and the error.

    `unreadable` says how many these are, and which; it is empty if there are none.
    `replaced` says which results of an earlier run were replaced or remain; it is empty if there
    were none.
    """

    out: Path
    images: int
    detections: int
    failed: tuple[tuple[Path, str], ...]
    replaced: str = ""
    unreadable: str = ""


def predict_folder(
    model: Detector | Engine,
    sources: Sequence[str | Path],
    out: str | Path,
    threshold: ScoreThreshold = None,
    *,
    segment_threshold: float | None = None,
    batch_size: int = 4,
    progress: bool = True,
) -> Summary:
    """Detect objects in files, folders and globs, and write the detections to the folder `out`.

    `out` then holds the detections that score more than `threshold` (default: 0.7, as published,
    for models with a "no object" class, else 0.5; "best": that of each class on the card):

    - drawn/: the images with detections drawn on them, in the folders of the sources
    - detections.json: COCO results with category_name and file_name; image ids count from 1
    - detections.csv: boxes in pixels; a text that a spreadsheet would run as a formula begins with
      an apostrophe

    A model with a mask head adds masks to detections.json, as COCO run-length encodings, and COCO
    panoptic results: panoptic.json, and a PNG for each image in panoptic/. Segments are merged from
    queries that score more than `segment_threshold`.

    Every file is written completely or not at all. An image that cannot be read is listed in the
    summary; the others are processed. Raises ConfigError if a threshold or the batch size is out of
    range, there is no source, or another process writes `out`; DataError if a source has no image
    or no image can be read (nothing is written then); and WeightsError if the model's outputs are
    not finite.
    """
    engine = as_engine(model)
    options = PredictOptions.of(engine, threshold, segment_threshold, batch_size)
    if not sources:
        raise ConfigError("no images to predict: name image files, folders or patterns")
    require_folder(out)
    out = _absolute(Path(out))
    # `out` may be inside a source folder: results of an earlier run are not inputs.
    paths = [path for path in find_images(sources) if out not in _absolute(path).parents]
    if not paths:
        raise DataError(
            f"no image to predict: all images of {len(sources)} sources are in {out}, whose images "
            "are results; name another folder with --out"
        )
    with locked(out):
        return _write_results(engine, paths, out, options, progress)


def _write_results(
    engine: Engine, paths: Sequence[Path], out: Path, options: PredictOptions, progress: bool
) -> Summary:
    """Detect objects in the images and write everything in `out`."""
    root = Path(os.path.commonpath([_absolute(path).parent for path in paths]))
    names = [_absolute(path).relative_to(root) for path in paths]
    drawn_names = _drawn_names(names)
    earlier = _files(out)
    rows: dict[int, list[dict[str, Any]]] = {}
    panoptic_images: list[Mapping[str, Any]] = []
    panoptic: list[Mapping[str, Any]] = []
    failed: dict[int, UnreadableFile] = {}
    with progress_bar("predicting", len(paths), progress) as advance:
        for number, result in detect_images(
            engine, len(paths), lambda number: read_image(paths[number]), options
        ):
            if isinstance(result, DataError):
                assert isinstance(result, UnreadableError), "read_image raises no other"
                failed[number] = result.file
            else:
                name = names[number]
                _write_drawn(out / DRAWN, drawn_names[number], number + 1, result.draw())
                image = {"image_id": number + 1, "file_name": name.as_posix()}
                rows[number] = [image | row for row in result.to_dicts()]
                if result.segments is not None:
                    png = name.with_name(_shortened(name.name, ".png"))
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
    problems = tuple((paths[number], str(failed[number])) for number in sorted(failed))
    unreadable = unreadable_line(failed.values(), len(paths))
    written = {Path(DRAWN, drawn_names[number]) for number in rows}
    replaced = _replaced(earlier, written, panoptic)
    return Summary(out, len(rows), len(table), problems, replaced, unreadable)


def _files(out: Path) -> set[Path]:
    """Return the results in `out`, relative to it."""
    found = [out / name for name in RESULTS if (out / name).is_file()]
    found += [path for path in (out / DRAWN).rglob("*") if path.is_file()]
    return {path.relative_to(out) for path in found}


def _replaced(earlier: set[Path], drawn: set[Path], panoptic: Sequence[object]) -> str:
    """Return what became of the results of an earlier run, as a sentence."""
    if not earlier & {Path(name) for name in RESULTS}:
        return ""
    written = drawn | {Path(name) for name in (RESULTS if panoptic else RESULTS[:2])}
    remaining = sorted(path.as_posix() for path in earlier - written)
    if not remaining:
        return "replaced the results of an earlier run"
    first, more = ", ".join(remaining[:3]), len(remaining) - 3
    names = f"{first} and {more} more" if more > 0 else first
    return f"replaced the results of an earlier run, of which there still are {names}"


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
            name = name.with_name(_shortened(name.name, ".png"))
            while name in taken:
                name = name.with_name(_shortened(f"{name.stem}_", ".png"))
        chosen.append(name)
    return chosen


def _shortened(stem: str, suffix: str) -> str:
    """Return `stem` and `suffix` as a file name of at most 255 bytes, the most of file systems."""
    encoded, most = os.fsencode(stem), _NAME_BYTES - len(suffix)
    if len(encoded) > most:
        digest = hashlib.sha256(encoded).hexdigest()[:16]
        encoded = encoded[: most - len(digest)].decode(errors="ignore").encode() + digest.encode()
    return os.fsdecode(encoded) + suffix


def _write_drawn(folder: Path, name: Path, image_id: int, image: Image.Image) -> None:
    """Write a drawn image into `folder`; as IMAGE_ID.png if that fails under its own name.

    Some file systems refuse names that others have, and no WebP has more than 16383 pixels a side.
    """
    try:
        _write_image(folder / name, image)
    except (OSError, ValueError):
        _write_image(folder / f"{image_id}.png", image)


def _write_image(path: Path, image: Image.Image) -> None:
    with atomic_file(path) as aside:
        image.save(aside, format=_DRAWN_FORMATS[path.suffix.lower()], quality=92)


def _write_json(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    write_text(path, f"[\n{lines}\n]\n")


def _write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["file_name", "category", "score", "x", "y", "width", "height"])
    writer.writerows(
        [_cell(row["file_name"]), _cell(row["category_name"]), row["score"], *row["bbox"]]
        for row in rows
    )
    write_text(path, text.getvalue())


def _cell(text: str) -> str:
    """Return a text that spreadsheets do not run as a formula: with an apostrophe before it.

    A text that begins with an apostrophe gets another, so that removing one always gives the text.
    """
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text
