"""Write what is found in images to a folder: drawn images, JSON and CSV; needs no torch."""

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from setmatch.data.annotations.write_panoptic import (
    panoptic_record,
    write_panoptic_json,
    write_png,
)
from setmatch.data.images.further_frames import further_frames_line, has_further_frames
from setmatch.data.images.image_paths import find_images
from setmatch.data.images.unreadable import UnreadableError, UnreadableFile, unreadable_line
from setmatch.data.images.writing import write_image
from setmatch.errors import ConfigError, DataError
from setmatch.files.folder_lock import locked
from setmatch.files.writing import require_folder, write_text
from setmatch.inference.background import Task, in_background
from setmatch.inference.earlier_results import earlier_results, replaced_line
from setmatch.inference.progress import progress_bar
from setmatch.inference.tables import csv_text
from setmatch.interruption import uninterrupted
from setmatch.structures.metadata import Categories

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
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # no other name would fit either
_WRITER_THREADS = 2  # encoding an image releases the interpreter lock
_WAITING_IMAGES = 8  # to be drawn and written


@runtime_checkable
class ImageSegments(Protocol):
    """The panoptic segments of an image."""

    @property
    def size_px(self) -> tuple[int, int]:
        """Height and width of the image."""

    def to_pixels(self) -> UInt8[np.ndarray, "H W 3"]:
        """Return the pixels of COCO's panoptic PNG."""

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return COCO's `segments_info`."""


@runtime_checkable
class ImageDetections(Protocol):
    """The detections in an image."""

    @property
    def segments(self) -> ImageSegments | None:
        """The panoptic segments; None from a model without a mask head."""

    def draw(self) -> Image.Image:
        """Return the image with everything drawn on it."""

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return the detections as dictionaries of COCO results."""


# Yields the number of each image file, in any order, and its detections or why it cannot be read.
Detect = Callable[[Sequence[Path]], Iterator[tuple[int, ImageDetections | DataError]]]


@dataclass(frozen=True)
class Summary:
    """What was written; `failed` holds each image that cannot be read, and the error.

    `unreadable` says how many these are, and which; it is empty if there are none.
    `replaced` says which results of an earlier run were replaced or remain; it is empty if there
    were none. `further_frames` says of how many images only the first of several was read.
    `interrupted` means Ctrl-C: the results are those of the images until then.
    """

    out: Path
    images: int
    detections: int
    failed: tuple[tuple[Path, str], ...]
    replaced: str = ""
    unreadable: str = ""
    interrupted: bool = False
    further_frames: str = ""


def write_results(
    detect: Detect,
    sources: Sequence[str | Path],
    out: str | Path,
    categories: Categories,
    drawn: bool = True,
    progress: bool = True,
) -> Summary:
    """Detect objects in files, folders and globs, and write the detections to the folder `out`.

    The files, and the errors, are those of `predict_folder`. Images are drawn and written in
    threads, while the next ones are detected in.
    """
    if not sources:
        raise ConfigError(
            "no images to predict: name image or video files, folders, patterns, a camera, or the "
            "address of a stream"
        )
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
        return _write_results(detect, paths, out, categories, drawn, progress)


def _write_results(
    detect: Detect,
    paths: Sequence[Path],
    out: Path,
    categories: Categories,
    drawn: bool,
    progress: bool,
) -> Summary:
    """Detect objects in the images and write everything in `out`."""
    root = Path(os.path.commonpath([_absolute(path).parent for path in paths]))
    names = [_absolute(path).relative_to(root) for path in paths]
    drawn_names = _drawn_names(names)
    earlier = earlier_results(out, RESULTS, DRAWN, _DRAWN_FORMATS)
    rows: dict[int, list[dict[str, Any]]] = {}
    panoptic_images: list[Mapping[str, Any]] = []
    panoptic: list[Mapping[str, Any]] = []
    failed: dict[int, UnreadableFile] = {}
    several: list[Path] = []
    end: KeyboardInterrupt | None = None

    def detected(start: Callable[[Task], None], advance: Callable[[int], None]) -> None:
        for number, result in detect(paths):
            if isinstance(result, DataError):
                assert isinstance(result, UnreadableError), "reading an image raises no other"
                failed[number] = result.file
            else:
                if has_further_frames(paths[number]):
                    several.append(paths[number])
                name = names[number]
                image = {"image_id": number + 1, "file_name": name.as_posix()}
                rows[number] = [image | row for row in result.to_dicts()]
                if result.segments is not None:
                    png = name.with_name(shortened(name.name, ".png"))
                    start(partial(_write_segments, out / "panoptic" / png, result.segments))
                    panoptic_images.append(_image_record(number + 1, name, result.segments))
                    segments = result.segments.to_dicts()
                    panoptic.append(panoptic_record(number + 1, png.as_posix(), segments))
                if drawn:
                    drawing = (out / DRAWN, drawn_names[number], number + 1)
                    start(partial(_write_drawn, *drawing, result))
            advance(1)

    try:
        with (
            progress_bar("predicting", len(paths), progress) as advance,
            in_background(_WRITER_THREADS, _WAITING_IMAGES) as start,
        ):
            try:
                detected(start, advance)
            except KeyboardInterrupt as error:
                end = error  # what waits to be written is written
    except KeyboardInterrupt as error:
        end = error
    if not rows:
        raise end or DataError(
            f"{failed[min(failed)]}"
            if len(paths) == 1
            else f"none of the {len(paths)} images could be read; the first: {failed[min(failed)]}"
        )
    table = [row for number in sorted(rows) for row in rows[number]]
    with uninterrupted():
        if panoptic:
            write_panoptic_json(out / "panoptic.json", panoptic_images, panoptic, categories)
        _write_json(out / "detections.json", table)
        _write_csv(out / "detections.csv", table)
    problems = tuple((paths[number], str(failed[number])) for number in sorted(failed))
    unreadable = unreadable_line(failed.values(), len(paths))
    written = {Path(DRAWN, drawn_names[number]) for number in rows if drawn}
    written |= {Path(name) for name in (RESULTS if panoptic else RESULTS[:2])}
    replaced = replaced_line(earlier, written, RESULTS)
    return Summary(
        out,
        len(rows),
        len(table),
        problems,
        replaced,
        unreadable,
        interrupted=end is not None,
        further_frames=further_frames_line(several, len(paths)),
    )


def _absolute(path: Path) -> Path:
    # Path.absolute would keep "..", which could lead out of the results folder.
    return Path(os.path.abspath(path))


def _image_record(image_id: int, name: Path, segments: ImageSegments) -> Mapping[str, Any]:
    height, width = segments.size_px
    return {"id": image_id, "file_name": name.as_posix(), "height": height, "width": width}


def _drawn_names(names: Sequence[Path]) -> list[Path]:
    """Return the file name of each drawn image.

    It is the image's own name, or that of a PNG file which differs from all other names.
    """
    taken, chosen = set(names), []
    for name in names:
        if name.suffix.lower() not in _DRAWN_FORMATS:
            name = name.with_name(shortened(name.name, ".png"))
            while name in taken:
                name = name.with_name(shortened(f"{name.stem}_", ".png"))
        chosen.append(name)
    return chosen


def shortened(stem: str, suffix: str) -> str:
    """Return `stem` and `suffix` as a file name of at most 255 bytes, the most of file systems."""
    encoded, most = os.fsencode(stem), _NAME_BYTES - len(suffix)
    if len(encoded) > most:
        digest = hashlib.sha256(encoded).hexdigest()[:16]
        encoded = encoded[: most - len(digest)].decode(errors="ignore").encode() + digest.encode()
    return os.fsdecode(encoded) + suffix


def _write_segments(path: Path, segments: ImageSegments) -> None:
    write_png(path, segments.to_pixels())


def _write_drawn(folder: Path, name: Path, image_id: int, detections: ImageDetections) -> None:
    """Write a drawn image into `folder`; as IMAGE_ID.png if that fails under its own name.

    Some file systems refuse names that others have, and no WebP has more than 16383 pixels a side.
    """
    image = detections.draw()
    try:
        _write_image(folder / name, image)
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in _FULL:
            raise
        _write_image(folder / f"{image_id}.png", image)


def _write_image(path: Path, image: Image.Image) -> None:
    write_image(path, image, _DRAWN_FORMATS[path.suffix.lower()], quality=92)


def _write_json(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    write_text(path, f"[\n{lines}\n]\n")


def _write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    header = ["file_name", "category", "score", "x", "y", "width", "height"]
    table = [[row["file_name"], row["category_name"], row["score"], *row["bbox"]] for row in rows]
    write_text(path, csv_text([header, *table]))
