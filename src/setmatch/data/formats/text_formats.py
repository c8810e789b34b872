"""Recognize label files that are texts of other formats than YOLO's, by one of their lines."""

import re
from collections.abc import Callable, Sequence

_EXPORT = "convert them to COCO, YOLO or Pascal VOC"
_IMAGE = re.compile(r"\.(jpe?g|png|bmp|tiff?|webp)$", re.IGNORECASE)
_ENTRY = re.compile(r"-?[\d.]+(,-?[\d.]+){4}")  # x1,y1,x2,y2,class
_LINES = 5  # of a file that are looked at
_KITTI_NUMBERS = (14, 15)  # behind the name of the class; the last is a score


def describe_text(text: str) -> str:
    """Return which format the first lines of a text have, with what to do; "" for others.

    Lines that YOLO's labels may have are none of these.
    """
    lines = [line.strip() for line in text.split("\n")[:_LINES] if line.strip()]
    for known, fits in _FORMATS.items():
        if fits(lines):
            return f"{known}, which is not read; {_EXPORT}"
    return ""


def _numbers(words: Sequence[str]) -> list[float]:
    """Return the numbers at the beginning of words; the rest is left out."""
    numbers: list[float] = []
    for word in words:
        try:
            numbers.append(float(word))
        except ValueError:
            break
    return numbers


def _is_kitti(lines: Sequence[str]) -> bool:
    return bool(lines) and all(
        not _numbers(words[:1])
        and len(words) - 1 in _KITTI_NUMBERS
        and len(_numbers(words[1:])) == len(words) - 1
        for words in map(str.split, lines)
    )


def _is_dota(lines: Sequence[str]) -> bool:
    rows = [line for line in lines if not line.lower().startswith(("imagesource", "gsd"))]
    return bool(lines) and all(
        len(words) in (9, 10) and len(_numbers(words)) == 8 for words in map(str.split, rows)
    )


def _is_visdrone(lines: Sequence[str]) -> bool:
    """Return whether lines are x, y, w, h, score, category, truncation and occlusion."""
    rows = [line.rstrip(",").split(",") for line in lines]
    return bool(rows) and all(
        len(row) == 8
        and all(re.fullmatch(r"\s*-?\d+\s*", each) for each in row)
        and int(row[4]) in (0, 1)
        and 0 <= int(row[5]) <= 11
        for row in rows
    )


def _is_mot(lines: Sequence[str]) -> bool:
    """Return whether lines are frame, track, box in pixels, a flag or score, and two or three more.

    YOLO's lines of nine numbers, with commas between them, have nothing in 0 to 1 beside pixels.
    """
    rows = [_numbers(line.split(",")) for line in lines]
    return bool(rows) and all(
        len(row) == len(line.split(",")) in (9, 10)
        and row[0] >= 1
        and row[0].is_integer()
        and row[1].is_integer()
        and max(row[2:6]) > 2
        and row[6] <= 1
        for row, line in zip(rows, lines, strict=True)
    )


def _is_wider(lines: Sequence[str]) -> bool:
    return (
        len(lines) > 2
        and bool(_IMAGE.search(lines[0]))
        and lines[1].isdigit()
        and len(_numbers(lines[2].split())) >= 4
    )


def _is_image_and_boxes(lines: Sequence[str]) -> bool:
    """Return whether lines are an image and its boxes, x1,y1,x2,y2,class, as keras-yolo3 has."""
    rows = [line.split() for line in lines]
    return any(len(row) > 1 for row in rows) and all(
        _IMAGE.search(row[0]) and all(map(_ENTRY.fullmatch, row[1:])) for row in rows
    )


_FORMATS: dict[str, Callable[[Sequence[str]], bool]] = {
    "KITTI": _is_kitti,
    "DOTA": _is_dota,
    "VisDrone": _is_visdrone,
    "MOTChallenge": _is_mot,
    "WIDER FACE": _is_wider,
    "a list of images with their boxes": _is_image_and_boxes,
}
