"""A data set of COCO's size opens in a second, and workers do not copy it."""

import gc
import hashlib
import os
import time
import zlib
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from generated_dataset import generated
from setmatch.data.cache.cache import cached
from setmatch.data.dataset import DetectionDataset
from setmatch.data.formats.base import DatasetFormat, SplitSource

pytestmark = pytest.mark.thorough  # a data set of 118,000 images takes seconds to make

IMAGES, BOXES, WORKERS, EPOCHS = 118_000, 860_000, 4, 3


GENERATED = DatasetFormat(
    "generated",
    "nothing on disk",
    find=lambda path: {},
    read=lambda split: generated(IMAGES, BOXES),
)


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory):
    """Give the data set from its cache, and the CPU seconds that opening took."""
    split = SplitSource("generated", "all", Path("generated.json"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SETMATCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr("setmatch.data.cache.cache._MIN_SECONDS", 0.0)
        patch.setattr("setmatch.data.cache.cache.format_named", lambda name: GENERATED)
        cached(split)
        patch.setattr("setmatch.data.cache.cache.format_named", pytest.fail)
        cached(split)  # a first time, for imports
        start = time.process_time()
        dataset = cached(split)
        yield dataset, time.process_time() - start


def private_mb() -> float:
    """Return the MB that this process shares with no other (Linux)."""
    lines = Path(f"/proc/{os.getpid()}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty")) / 1e3


def work(walk: Callable[[int], object], rank: int, queue: Any) -> None:
    gc.disable()  # it would write into all objects of the test process
    for image in range(rank, IMAGES, 100 * WORKERS):
        walk(image)  # a first pass, whose one-time cost does not count
    before = private_mb()
    for _ in range(EPOCHS):
        for image in range(rank, IMAGES, 40 * WORKERS):
            walk(image)
    queue.put(private_mb() - before)


def growth_mb(walk: Callable[[int], object]) -> float:
    """Return by how much four forked workers grow that walk every 40th image three times."""
    context = get_context("fork")
    queue = context.Queue()
    workers = [context.Process(target=work, args=(walk, rank, queue)) for rank in range(WORKERS)]
    for worker in workers:
        worker.start()
    grown = [queue.get(timeout=120) for _ in workers]
    for worker in workers:
        worker.join()
    return sum(grown)


@pytest.mark.promise(12)
def test_opening_from_the_cache_takes_little_more_than_reading(
    opened: tuple[DetectionDataset, float],
):
    """Less than ten passes over as many bytes: a tenth of a second for 118,000 images."""
    dataset, seconds = opened
    assert (len(dataset), len(dataset.class_indices)) == (IMAGES, BOXES)
    bytes_ = bytearray(dataset.nbytes)
    start = time.process_time()
    zlib.crc32(bytes_)
    hashlib.sha256(bytes_)
    one_pass_s = time.process_time() - start
    assert seconds < 10 * one_pass_s


@pytest.mark.promise(12)
def test_workers_do_not_copy_the_data_set(opened: tuple[DetectionDataset, float]):
    """pytorch #13246: four of them stay within 5% of the data set over three epochs.

    Any walk copies some pages on which the test process had freed memory: 0.4 MB when it is young,
    2.8 MB once after thousands of tests. A walk over a hundred images measures that first.
    """
    dataset, _ = opened
    few = generated(100, 700)
    usual_mb = growth_mb(lambda image: few.target(image % 100))
    assert growth_mb(dataset.target) - usual_mb < 0.05 * dataset.nbytes / 1e6


def test_the_measurement_notices_that_workers_copy_a_list_of_objects():
    boxes = [{"bbox": [float(image), 1.0, 2.0, 3.0], "id": image} for image in range(IMAGES)]
    assert (
        growth_mb(
            lambda image: [
                boxes[image]["bbox"][0] for image in range(image, image + 9) if image < IMAGES
            ]
        )
        > 5
    )
