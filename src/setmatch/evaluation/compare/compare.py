"""The comparison itself: every contestant is timed and asked, the table is what came out."""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from setmatch.data.corrupt_files import find_unreadable
from setmatch.data.dataset import DetectionDataset
from setmatch.data.image_io import read_image
from setmatch.data.num_workers import Workers
from setmatch.data.open import open_dataset
from setmatch.data.transforms import preprocess
from setmatch.errors import ConfigError
from setmatch.evaluation.compare.candidates import Candidate, find_candidates
from setmatch.evaluation.compare.profiling import Cost, costs
from setmatch.evaluation.evaluate import evaluate
from setmatch.evaluation.evaluate_results import read_detections
from setmatch.evaluation.metrics.average_precision import AveragePrecision, average_precision
from setmatch.evaluation.results import Report
from setmatch.evaluation.summarize import COCO_LIMIT
from setmatch.files import atomic_file
from setmatch.structures.batch import Batch
from setmatch.structures.metadata import Preprocessing

if TYPE_CHECKING:
    from rich.console import RenderableType

PICTURES = 8  # that are timed
NOISE_PX = (800, 1066)  # of the picture where there are no data, as the paper's example
Grid = tuple[tuple[str, ...], list[tuple[str, ...]]]  # heads, then a line for each contestant
PRECISIONS: tuple[str, ...] = ("AP", "AP50", "AP75", "APs", "APm", "APl")
MASKS: tuple[str, ...] = ("PQ", "PQ things", "PQ stuff", "SQ", "RQ", "mask AP", "mask AP50")


@dataclass(frozen=True)
class Row:
    """A contestant with what it costs and what it finds; None where that cannot be had."""

    name: str
    note: str
    cost: Cost | None
    precision: AveragePrecision | None

    @property
    def masks(self) -> dict[str, float]:
        """What was measured of its masks, by the names of `MASKS`."""
        found = self.precision
        if not isinstance(found, Report):
            return {}
        numbers: dict[str, float] = {}
        if found.panoptic is not None:
            quality = found.panoptic
            numbers = {"PQ": quality.all.PQ, "SQ": quality.all.SQ, "RQ": quality.all.RQ}
            groups = {"PQ things": quality.things, "PQ stuff": quality.stuff}
            numbers |= {name: group.PQ for name, group in groups.items() if group.classes}
        if found.masks is not None:
            numbers |= {"mask AP": found.masks.AP, "mask AP50": found.masks.AP50}
        return numbers

    @property
    def found(self) -> dict[str, float]:
        """All that was measured of its answers, by the heads of the tables; -1: nothing there."""
        return {**(self.precision.numbers() if self.precision else {}), **self.masks}


@dataclass(frozen=True)
class Comparison:
    """Rows in the order they were asked for, and what they were measured on."""

    rows: tuple[Row, ...]
    measured_on: str
    timed_on: str
    batch_size: int

    def to_json(self) -> dict[str, Any]:
        """Return plain values; precisions lie in 0..1, -1 means nothing to find."""
        return {
            "measured_on": self.measured_on,
            "timed_on": self.timed_on,
            "batch_size": self.batch_size,
            "rows": [
                {
                    "name": row.name,
                    "note": row.note,
                    "cost": row.cost and asdict(row.cost),
                    "precision": row.precision and row.precision.numbers(),
                    "masks": row.masks or None,
                }
                for row in self.rows
            ],
        }

    def write_json(self, path: Path) -> None:
        """Write `to_json` to a file."""
        with atomic_file(path) as aside:
            text = json.dumps(self.to_json(), indent=1, ensure_ascii=False)
            aside.write_text(text + "\n", encoding="utf-8")

    def tables(self) -> list[Grid]:
        """Return costs, precisions and what masks are worth: heads, and a row of text for each.

        – stands where there is nothing to say; a table of nothing else is left out.
        """
        many = "images/s" if self.batch_size == 1 else f"images/s by {self.batch_size}"
        costs = ("params", "GFLOPs", "latency", many, "speed", "memory")
        found: list[Grid] = []
        if any(row.cost for row in self.rows):
            found.append((costs, [_cost_cells(row.cost) for row in self.rows]))
        if any(row.precision for row in self.rows):
            found.append((PRECISIONS, [_per_cents(row.found, PRECISIONS) for row in self.rows]))
        if any(row.masks for row in self.rows):
            found.append((MASKS, [_per_cents(row.masks, MASKS) for row in self.rows]))
        return found

    def notes(self) -> list[str]:
        """Return the sentences below the table."""
        notes = [f"{row.name}: {row.note}" for row in self.rows if row.note]
        of_masks = " of boxes, PQ and mask AP" if any(row.masks for row in self.rows) else ""
        if any(row.precision for row in self.rows):
            notes.append(f"AP{of_masks} in per cent, on {self.measured_on}")
        if any(row.cost for row in self.rows):
            notes += [
                f"timed on {self.timed_on}, in turns; median over rounds, without reading pictures",
                "GFLOPs count a multiply-add once, as the paper does; elementwise arithmetic and "
                "the suppression of doubles are not in them",
                "speed is the first row's latency over this one's; memory is weights and what is "
                "alive at once for one picture",
            ]
        return notes

    def table(self) -> "RenderableType":
        """Return both tables and the notes for a rich console."""
        from rich.box import SIMPLE_HEAD
        from rich.console import Group
        from rich.table import Column, Table
        from rich.text import Text

        shown: list[RenderableType] = []
        for heads, rows in self.tables():
            # A name cut short could be that of another model.
            names = Column("", overflow="fold")
            table = Table(names, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
            for head in heads:
                table.add_column(head, justify="right")
            for row, cells in zip(self.rows, rows, strict=True):
                table.add_row(Text(row.name), *cells)
            shown.append(table)
        return Group(*shown, Text("\n".join(self.notes()), style="dim"))


def compare(
    sources: Sequence[str],
    data: str | Path | DetectionDataset | None = None,
    *,
    split: str = "val",
    format: str | None = None,
    rounds: int = 10,
    batch_size: int = 4,
    workers: Workers = "auto",
    short_side_px: int = 800,
    device: torch.device | str = "cpu",
    progress: bool = False,
) -> Comparison:
    """Compare models and detections files by cost and, on a split of `data`, by precision.

    `sources` are what `find_candidates` takes. Models with random weights see pictures with a
    short side of `short_side_px`, the others as their cards say. Without data nothing but cost is
    measured, on noise of the size of the paper's example. Of several contestants with many classes
    each is measured on the classes it shares with the data by name.
    Raises what finding, reading and evaluating them raise; ConfigError for a detections file
    without data, and for counts below 1.
    """
    if not sources:
        raise ConfigError("nothing to compare: name at least one run, model or detections file")
    if rounds < 1 or batch_size < 1:
        raise ConfigError(f"rounds = {rounds}, batch_size = {batch_size}: at least 1 of each")
    index = (
        data
        if isinstance(data, DetectionDataset) or data is None
        else open_dataset(data, split, format)
    )
    side = Preprocessing(short_side_px, round(short_side_px * 5 / 3))
    categories = None if index is None else index.categories
    candidates = find_candidates(sources, categories, side)
    if index is None and any(each.detections for each in candidates):
        raise ConfigError(
            "a detections file says nothing without the data that it is about: --data"
        )
    # Precision first, so that a file or model that does not fit is refused before all the timing.
    precisions = [
        None if index is None else _precision(each, index, workers, device, progress)
        for each in candidates
    ]
    measured = iter(_costs(candidates, index, batch_size, rounds, device))
    rows = tuple(
        Row(each.name, each.note, next(measured) if each.model else None, precision)
        for each, precision in zip(candidates, precisions, strict=True)
    )
    return Comparison(rows, _measured_on(index), _timed_on(index, device), batch_size)


def _precision(
    candidate: Candidate,
    index: DetectionDataset,
    workers: Workers,
    device: torch.device | str,
    progress: bool,
) -> AveragePrecision | None:
    if candidate.detections is not None:
        results = read_detections(candidate.detections, index)
        crowded = int(np.diff(index.offsets).max(initial=0))
        return average_precision(index, results, max(COCO_LIMIT, crowded))
    assert candidate.model is not None, "a contestant is a model or a file"
    if not candidate.trained:
        return None
    return evaluate(candidate.model.to(device), index, workers=workers, progress=progress)


def _costs(
    candidates: Sequence[Candidate],
    index: DetectionDataset | None,
    batch_size: int,
    rounds: int,
    device: torch.device | str,
) -> list[Cost]:
    models = [each.model.to(device).eval() for each in candidates if each.model is not None]
    if not models:
        return []
    pictures = [_pictures(index, model.card.preprocessing, device) for model in models]
    return costs(models, pictures, batch_size, rounds)


def _pictures(
    index: DetectionDataset | None, preprocessing: Preprocessing, device: torch.device | str
) -> list[Batch]:
    """Return some pictures of a data set, evenly spaced, each a batch of its own."""
    if index is None:
        noise = torch.randint(256, (3, *NOISE_PX), dtype=torch.uint8)
        return [Batch.from_images([preprocess(noise, preprocessing)]).to(device)]
    readable = np.delete(np.arange(len(index)), list(find_unreadable(index)))
    chosen = np.linspace(0, len(readable) - 1, num=min(PICTURES, len(readable))).round().astype(int)
    return [
        Batch.from_images(
            [preprocess(read_image(index.path(image), index.size_px(image)), preprocessing)]
        ).to(device)
        for image in readable[chosen].tolist()
    ]


def _measured_on(index: DetectionDataset | None) -> str:
    if index is None:
        return ""
    boxes = int((~index.crowd).sum())
    return f"{len(index)} images with {boxes} boxes of {index.source.name}"


def _timed_on(index: DetectionDataset | None, device: torch.device | str) -> str:
    pictures = "noise" if index is None else f"{min(PICTURES, len(index))} of the pictures"
    if torch.device(device).type == "cuda":
        return f"{pictures}, {torch.cuda.get_device_name(device)}"
    return f"{pictures}, {_processor()}, {torch.get_num_threads()} thread(s)"


def _processor() -> str:
    cpus = Path("/proc/cpuinfo")
    lines = cpus.read_text(encoding="utf-8").splitlines() if cpus.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _cost_cells(cost: Cost | None) -> tuple[str, ...]:
    if cost is None:
        return ("–",) * 6
    return (
        f"{cost.parameters / 1e6:.1f}M",
        f"{cost.gmacs:.3g}" if cost.gmacs < 100 else f"{cost.gmacs:.0f}",
        f"{1000 * cost.latency_s:.3g} ms" if cost.latency_s < 1 else f"{cost.latency_s:.2f} s",
        f"{cost.images_per_s:.3g}",
        f"{cost.speedup:.2f}×" if cost.speedup >= 0.1 else f"{cost.speedup:.2g}×",
        f"{cost.peak_bytes / 1e6:.0f} MB",
    )


def _per_cents(found: Mapping[str, float], names: Sequence[str]) -> tuple[str, ...]:
    return tuple("–" if found.get(name, -1) < 0 else f"{100 * found[name]:.1f}" for name in names)
