"""Objects in any pictures: read while the model works, answered in batches of one shape."""

import csv
import json
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from setmatch.asking import answering as answering
from setmatch.asking import ask, instances_of, segments_of
from setmatch.asking import progress_bar as progress_bar
from setmatch.data.formats.write_panoptic import (
    panoptic_record,
    write_panoptic_json,
    write_png,
)
from setmatch.data.images import from_pillow, read_image
from setmatch.data.pictures import find_images as find_images
from setmatch.data.transforms import prepare
from setmatch.draw import draw, draw_segments
from setmatch.errors import ConfigError, DataError
from setmatch.files import require_folder, whole_file
from setmatch.models.detector import Detector
from setmatch.segments import Segments
from setmatch.structures import Batch, Detections, Preprocessing

Picture = str | Path | Image.Image | Tensor | NDArray[Any]
Reader = Callable[[int], UInt8[Tensor, "3 H W"]]
Thresholds = tuple[float, float | None]  # of boxes and of segments

_READERS = 2  # threads; decoding releases the interpreter
_WAITING_BATCHES = 4
_FORMATS = (".jpg", ".jpeg", ".png", ".webp")  # others are written as PNG


@dataclass(frozen=True)
class Found(Detections):
    """The detections of one picture, and which picture that was: a file, or its pixels.

    `segments` say what is at every pixel, where the model has a mask head.
    """

    segments: Segments | None = None
    path: Path | None = None
    image: UInt8[Tensor, "3 H W"] | None = field(default=None, repr=False)

    def draw(self) -> Image.Image:
        """Return the picture with every detection or segment on it, as an RGB Pillow image.

        Raises DataError when the file cannot be read any more.
        """
        if self.image is not None:
            return _drawn(self.image, self, self.segments)
        assert self.path is not None, "an answer knows its picture or where it lies"
        return _drawn(read_image(self.path), self, self.segments)


@dataclass(frozen=True)
class Summary:
    """What `predict_folder` did; `failed` names each picture that gave no answer, and why."""

    out: Path
    images: int
    detections: int
    failed: tuple[tuple[Path, str], ...]


@dataclass(frozen=True)
class _Answer:
    number: int
    image: UInt8[Tensor, "3 H W"]
    found: Detections
    segments: Segments | None


@dataclass(frozen=True)
class _Unreadable:
    number: int
    error: DataError


@dataclass(frozen=True)
class _Prepared:
    number: int
    image: UInt8[Tensor, "3 H W"]
    pixels: Float[Tensor, "3 h w"]


def predict(
    model: Detector,
    images: Picture | Sequence[Picture],
    *,
    threshold: float = 0.0,
    segment_threshold: float | None = None,
    batch_size: int = 4,
) -> Found | list[Found]:
    """Find objects: one `Found` for one picture; a list for a list, a folder or a glob.

    Pictures are files, Pillow images, uint8 tensors (3, H, W) or uint8 arrays (H, W, 3), RGB.
    Detections that score more than `threshold` come back, in pixels of the upright original; from
    a model with a mask head with their masks, and with segments merged from what scores more than
    `segment_threshold` (default: 0.85, as published, where "no object" is an answer, else 0.4).
    Batches hold pictures of one shape, so that no answer depends on a picture's company.
    Raises DataError for a picture that cannot be read or a pattern that matches nothing, and
    WeightsError when the model's answers are not finite.
    """
    _check(batch_size, threshold, segment_threshold)
    pictures, single = _listed(images)
    found: dict[int, Found] = {}
    with answering(model):
        for answer in _answers(
            model,
            len(pictures),
            lambda number: _pixels(pictures[number]),
            batch_size,
            (threshold, segment_threshold),
        ):
            if isinstance(answer, _Unreadable):
                raise answer.error
            kept, picture = answer.found, pictures[answer.number]
            found[answer.number] = Found(
                kept.xyxy_px,
                kept.scores,
                kept.classes,
                kept.categories,
                kept.size_px,
                kept.masks,
                segments=answer.segments,
                path=picture if isinstance(picture, Path) else None,
                # A folder's pictures would fill the memory; those given are in it anyway.
                image=None if isinstance(picture, Path) else answer.image,
            )
    return found[0] if single else [found[number] for number in range(len(pictures))]


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
    and stops no other; where none can be, no file is written. Raises DataError when a source holds
    no image, WeightsError when the model's answers are not finite.
    """
    threshold = model.shown if threshold is None else threshold
    _check(batch_size, threshold, segment_threshold)
    require_folder(out)
    out = _absolute(Path(out))
    # What an earlier run has drawn into a folder of pictures is not a picture to be read.
    paths = [path for path in find_images(sources) if out not in _absolute(path).parents]
    if not paths:
        raise DataError(f"no picture to look at: all of {len(sources)} sources lie in {out}")
    root = Path(os.path.commonpath([_absolute(path).parent for path in paths]))
    names = [_absolute(path).relative_to(root) for path in paths]
    rows: dict[int, list[dict[str, Any]]] = {}
    pictures: list[Mapping[str, Any]] = []
    panoptic: list[Mapping[str, Any]] = []
    failed: dict[int, str] = {}
    with answering(model), progress_bar("predicting", len(paths), progress) as advance:
        thresholds = (threshold, segment_threshold)
        for answer in _answers(
            model, len(paths), lambda n: read_image(paths[n]), batch_size, thresholds
        ):
            number = answer.number
            if isinstance(answer, _Unreadable):
                failed[number] = str(answer.error)
            else:
                picture = _drawn(answer.image, answer.found, answer.segments)
                _write_picture(out / "pictures" / names[number], picture)
                which = {"image_id": number + 1, "file_name": names[number].as_posix()}
                rows[number] = [which | row for row in answer.found.to_dicts()]
                if answer.segments is not None:
                    png = names[number].with_name(f"{names[number].name}.png")
                    write_png(out / "panoptic" / png, answer.segments)
                    pictures.append(_listing(number + 1, names[number], answer.segments))
                    panoptic.append(panoptic_record(number + 1, png.as_posix(), answer.segments))
            advance(1)
    if panoptic:
        write_panoptic_json(out / "panoptic.json", pictures, panoptic, model.card.categories)
    table = [row for number in sorted(rows) for row in rows[number]]
    if rows:  # else an empty list would say that pictures were looked at
        _write_json(out / "detections.json", table)
        _write_csv(out / "detections.csv", table)
    return Summary(out, len(rows), len(table), tuple((paths[n], failed[n]) for n in sorted(failed)))


def _answers(
    model: Detector,
    count: int,
    read: Reader,
    batch_size: int,
    thresholds: Thresholds,
) -> Iterator[_Answer | _Unreadable]:
    """Answer pictures 0 to `count` as soon as a batch of one shape is full, in any order.

    However many shapes there are, only the pictures of a few batches are held at a time.
    """
    waiting: dict[torch.Size, list[_Prepared]] = {}
    for picture in _read_ahead(count, read, model.card.preprocessing, ahead=2 * batch_size):
        if isinstance(picture, _Unreadable):
            yield picture
            continue
        waiting.setdefault(picture.pixels.shape, []).append(picture)
        shape = max(waiting, key=lambda shape: len(waiting[shape]))
        full = len(waiting[shape]) == batch_size
        if full or sum(map(len, waiting.values())) >= _WAITING_BATCHES * batch_size:
            yield from _answer(model, waiting.pop(shape), thresholds)
    for pictures in waiting.values():
        yield from _answer(model, pictures, thresholds)


def _answer(
    model: Detector, pictures: Sequence[_Prepared], thresholds: Thresholds
) -> list[_Answer]:
    sizes_px = [(each.image.shape[1], each.image.shape[2]) for each in pictures]
    batch = Batch.from_images([each.pixels for each in pictures])
    answer = ask(model, batch, sizes_px)
    predictions = answer.predictions
    found = [each.above(thresholds[0]) for each in answer.found]
    segments: Sequence[Segments | None] = [None] * len(pictures)
    if predictions is not None and predictions.masks is not None:
        found = instances_of(model, predictions, batch, sizes_px, thresholds[0])
        segments = segments_of(model, predictions, batch, sizes_px, thresholds[1])
    return [
        _Answer(each.number, each.image, one, pieces)
        for each, one, pieces in zip(pictures, found, segments, strict=True)
    ]


def _read_ahead(
    count: int, read: Reader, preprocessing: Preprocessing, ahead: int
) -> Iterator[_Prepared | _Unreadable]:
    """Read and prepare pictures in threads, `ahead` of whoever takes them, in order."""

    def load(number: int) -> _Prepared | _Unreadable:
        try:
            image = read(number)
        except DataError as error:
            return _Unreadable(number, error)
        return _Prepared(number, image, prepare(image, preprocessing))

    queue: deque[Future[_Prepared | _Unreadable]] = deque()
    with ThreadPoolExecutor(_READERS) as readers:
        for number in range(count):
            queue.append(readers.submit(load, number))
            if len(queue) > ahead:
                yield queue.popleft().result()
        while queue:
            yield queue.popleft().result()


def _listed(images: Picture | Sequence[Picture]) -> tuple[list[Picture], bool]:
    """Return the pictures, patterns spelt out as files, and whether just one was given."""
    if isinstance(images, str | Path):
        return list(find_images([images])), Path(images).is_file()
    if isinstance(images, Image.Image | Tensor | np.ndarray):
        return [images], True
    pictures: list[Picture] = []
    for picture in images:
        pictures += find_images([picture]) if isinstance(picture, str | Path) else [picture]
    return pictures, False


def _pixels(picture: Picture) -> UInt8[Tensor, "3 H W"]:
    if isinstance(picture, str | Path):
        return read_image(picture)
    if isinstance(picture, Image.Image):
        return from_pillow(picture)
    tensor = torch.from_numpy(picture) if isinstance(picture, np.ndarray) else picture
    given = f"{type(picture).__name__} of {tensor.dtype}, shape {tuple(picture.shape)}"
    if isinstance(picture, np.ndarray) and tensor.ndim == 3:
        tensor = tensor.permute(2, 0, 1)
    if tensor.dtype != torch.uint8 or tensor.ndim != 3 or tensor.shape[0] != 3:
        raise DataError(f"{given}: expected a uint8 tensor (3, H, W) or array (H, W, 3), RGB")
    return tensor.cpu()


def _check(batch_size: int, *thresholds: float | None) -> None:
    for threshold in thresholds:
        if threshold is not None and not 0 <= threshold <= 1:
            raise ConfigError(f"threshold = {threshold}: scores lie between 0 and 1")
    if batch_size < 1:
        raise ConfigError(f"batch_size = {batch_size}: a batch holds at least one picture")


def _absolute(path: Path) -> Path:
    # Unlike Path.absolute it takes out "..", which would lead out of the folder of results.
    return Path(os.path.abspath(path))


def _to_pillow(image: UInt8[Tensor, "3 H W"]) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())


def _listing(image_id: int, name: Path, segments: Segments) -> Mapping[str, Any]:
    height, width = segments.size_px
    return {"id": image_id, "file_name": name.as_posix(), "height": height, "width": width}


def _drawn(
    image: UInt8[Tensor, "3 H W"], found: Detections, segments: Segments | None
) -> Image.Image:
    picture = _to_pillow(image)
    return draw(picture, found) if segments is None else draw_segments(picture, segments)


def _write_picture(path: Path, picture: Image.Image) -> None:
    if path.suffix.lower() not in _FORMATS:
        path = path.with_name(f"{path.name}.png")
    with whole_file(path) as aside:
        picture.save(aside, quality=92)


def _write_json(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    with whole_file(path) as aside:
        aside.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def _write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    with whole_file(path) as aside, aside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", "category", "score", "x", "y", "width", "height"])
        writer.writerows(
            [row["file_name"], row["category_name"], row["score"], *row["bbox"]] for row in rows
        )
