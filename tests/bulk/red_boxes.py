"""Images with red boxes, a predictor that finds them, and results to compare."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet

from fake_detectors import RedFinder, red_box_image, to_pil
from setmatch.bulk import Predictor, predict_parquet

PART_IMAGES = 3


def write_boxes(folder: Path, count: int) -> Path:
    """Write images of two shapes; the third of each five is no image, the fourth has no object."""
    folder.mkdir()
    for number in range(count):
        path = folder / f"{number:03}.png"
        if number % 5 == 2:
            path.write_bytes(b"no image")
        else:
            size = (64, 96) if number % 2 else (96, 64)
            x = number % 7
            to_pil(red_box_image(*size, (x, 8, x + 32, 40))).save(path)
    return folder


def finder(**choices: Any) -> Predictor:
    return Predictor(RedFinder(), **choices)


def predict(sources: Path | str, out: Path, **options: Any) -> Any:
    options = {"part_images": PART_IMAGES, "progress": False} | options
    return predict_parquet(options.pop("predictor", finder()), [sources], out, **options)


def rows(out: Path) -> list[dict[str, Any]]:
    """All rows, as whatever reads Parquet folders sees them."""
    table: pyarrow.Table = parquet.read_table(out)
    return table.to_pylist()


def in_child(work: Callable[[], Any]) -> int:
    """Run `work` in a fork of this process; return its status: 0, 1 for an error, or -signal."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_me() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
