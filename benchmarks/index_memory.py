"""Cost of a data set of COCO train2017's size: seconds to open, memory, memory of workers.

    python benchmarks/index_memory.py [--images 118000] [--boxes 860000] [--json FILE]

The annotation file is generated in a temporary folder, with a polygon per box as in COCO. The image
files are empty, since reading annotations opens no image.
"""

import argparse
import json
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from setmatch.data.cache.cache import cached
from setmatch.data.dataset import DetectionDataset
from setmatch.data.formats.coco.find import json_source
from timing import publish


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=118_000)
    parser.add_argument("--boxes", type=int, default=860_000)
    parser.add_argument("--json", type=Path, help="also write the results here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as cache:
        annotations = generate(Path(folder), options.images, options.boxes)
        os.environ["SETMATCH_CACHE"] = cache
        results = measure(annotations)
    publish("Memory of a data set, and of four workers that read it", results, options.json)


def generate(folder: Path, images: int, boxes: int) -> Path:
    """Write a data set of random boxes, each with a polygon of 24 numbers."""
    rng = np.random.default_rng(0)
    names = [f"{number:012d}.jpg" for number in range(images)]
    (folder / "train2017").mkdir()
    for name in names:
        (folder / "train2017" / name).touch()
    xywh = rng.uniform(1, 200, (boxes, 4)).round(2).tolist()
    polygon = [rng.uniform(0, 480, 24).round(2).tolist()]
    tree = {
        "images": [
            {"id": number, "file_name": name, "height": 480, "width": 640}
            for number, name in enumerate(names)
        ],
        "categories": [{"id": number, "name": f"class {number}"} for number in range(80)],
        "annotations": [
            {
                "id": number,
                "image_id": image,
                "category_id": number % 80,
                "bbox": box,
                "area": 100.0,
                "iscrowd": 0,
                "segmentation": polygon,
            }
            for number, (image, box) in enumerate(
                zip(rng.integers(0, images, boxes).tolist(), xywh, strict=True)
            )
        ],
    }
    annotations = folder / "annotations" / "instances_train2017.json"
    annotations.parent.mkdir()
    with annotations.open("w") as file:
        json.dump(tree, file)
    return annotations


def measure(annotations: Path) -> dict[str, object]:
    """Open the data set in fresh processes: first from the file, then from its cache.

    Then from a file with one flaw, for which the reader checks every annotation.
    """
    results: dict[str, object] = {"file_mb": round(annotations.stat().st_size / 1e6)}
    for name in ("first", "from_cache"):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            results[name] = pool.submit(in_fresh_process, annotations).result()
    text = annotations.read_text()
    annotations.write_text(text.replace('"iscrowd": 0, ', "", 1))
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        opened = pool.submit(in_fresh_process, annotations).result()
    results["first_with_a_flaw"] = {key: opened[key] for key in ("open_s", "open_cpu_s")}
    return results


def in_fresh_process(annotations: Path) -> dict[str, object]:
    """Return seconds and memory (MB) of this process and its forked workers."""
    before_mb = private_mb()
    start = time.perf_counter()
    cpu_s = time.process_time()
    dataset = cached(json_source(annotations, "all", "coco"))
    seconds = time.perf_counter() - start
    cpu_s = time.process_time() - cpu_s
    grown_mb = private_mb() - before_mb
    workers = [ReaderProcess(dataset) for _ in range(4)]
    epochs = [np.sum([worker.read_all() for worker in workers], axis=0).tolist() for _ in range(3)]
    shared_mb, private_mb_by_epoch = zip(*epochs, strict=True)
    for worker in workers:
        worker.stop()
    return {
        "images": len(dataset),
        "boxes": len(dataset.class_indices),
        "open_s": round(seconds, 2),
        "open_cpu_s": round(cpu_s, 2),
        "dataset_mb": round(dataset.nbytes / 1e6, 1),
        "resident_growth_mb": round(grown_mb, 1),
        "peak_mb": round(status_mb("VmHWM"), 1),
        "four_workers_mb_by_epoch": [round(mb, 1) for mb in shared_mb],
        "four_workers_growth": round(shared_mb[-1] / shared_mb[0] - 1, 4),
        "four_workers_private_mb_by_epoch": [round(mb, 1) for mb in private_mb_by_epoch],
        "four_workers_private_growth": round(
            private_mb_by_epoch[-1] / private_mb_by_epoch[0] - 1, 4
        ),
    }


class ReaderProcess:
    """A forked process that reads every target of a data set once an epoch."""

    def __init__(self, dataset: DetectionDataset) -> None:
        context = get_context("fork")
        self._pipe, child_end = context.Pipe()
        self._process = context.Process(target=self._serve, args=(dataset, child_end), daemon=True)
        self._process.start()
        self._pipe.recv()

    def read_all(self) -> tuple[float, float]:
        """Read every target; return the worker's proportional and private memory in MB."""
        self._pipe.send("read")
        proportional, private = self._pipe.recv()
        return proportional, private

    def stop(self) -> None:
        """End the process."""
        self._pipe.send("stop")
        self._process.join()

    @staticmethod
    def _serve(dataset: DetectionDataset, pipe: Any) -> None:
        pipe.send((rollup_mb("Pss:"), private_mb()))
        while pipe.recv() == "read":
            for image in range(len(dataset)):
                dataset.target(image)
            pipe.send((rollup_mb("Pss:"), private_mb()))


def private_mb() -> float:
    """Return the private memory of this process in MB (Linux)."""
    return rollup_mb("Private_")


def rollup_mb(key: str) -> float:
    """Return the sum of a key in this process' memory map in MB (Linux)."""
    text = Path(f"/proc/{os.getpid()}/smaps_rollup").read_text()
    lines = [line for line in text.splitlines() if line.startswith(key)]
    return sum(int(line.split()[1]) for line in lines) / 1e3


def status_mb(key: str) -> float:
    """Return a memory entry of /proc/self/status in MB (Linux)."""
    text = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith(key)) / 1e3


if __name__ == "__main__":
    main()
