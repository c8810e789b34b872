"""`compare`: time models, measure their AP, and put both into one table."""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from setmatch.data.batches.num_workers import Workers
from setmatch.data.batches.transforms import preprocess
from setmatch.data.dataset import DetectionDataset
from setmatch.data.images.corrupt_files import find_unreadable
from setmatch.data.images.image_io import read_image
from setmatch.data.open import open_dataset
from setmatch.distributed import init_distributed, require_single_process
from setmatch.errors import ConfigError, WeightsError, counted
from setmatch.evaluation.compare.candidates import Candidate, Load, Source, find_candidates
from setmatch.evaluation.compare.checks import check_candidates
from setmatch.evaluation.compare.profiling import Cost, measure_costs
from setmatch.evaluation.evaluate import evaluate
from setmatch.evaluation.metrics.coco import absent_as_none
from setmatch.evaluation.results import Report
from setmatch.evaluation.timing import doubts, load_average
from setmatch.files.reading import read_text
from setmatch.files.writing import write_text
from setmatch.html.tables import percent
from setmatch.inference.engines.base import Engine
from setmatch.inference.engines.load import load_on
from setmatch.models.weights.terms import accepting
from setmatch.structures.batch import Batch
from setmatch.structures.metadata import Preprocessing

if TYPE_CHECKING:
    from rich.console import RenderableType

TIMED_IMAGES = 8
NOISE_SIZE_PX = (800, 1066)  # (height, width) of the image without a data set, as in the paper
Grid = tuple[tuple[str, ...], list[tuple[str, ...]]]  # column heads, and a row for each candidate
PRECISIONS: tuple[str, ...] = ("AP", "AP50", "AP75", "APs", "APm", "APl")
MASKS: tuple[str, ...] = ("PQ", "PQ things", "PQ stuff", "SQ", "RQ", "mask AP", "mask AP50")


@dataclass(frozen=True)
class Row:
    """A candidate, its cost and its report; None if it has no model or was not evaluated."""

    name: str
    note: str
    cost: Cost | None
    precision: Report | None

    @property
    def masks(self) -> dict[str, float]:
        """The metrics of masks and segments, by the names in `MASKS`; 0..1."""
        if self.precision is None:
            return {}
        numbers: dict[str, float] = {}
        panoptic, masks = self.precision.panoptic, self.precision.masks
        if panoptic is not None:
            numbers = {"PQ": panoptic.all.PQ, "SQ": panoptic.all.SQ, "RQ": panoptic.all.RQ}
            groups = {"PQ things": panoptic.things, "PQ stuff": panoptic.stuff}
            numbers |= {name: group.PQ for name, group in groups.items() if group.classes}
        if masks is not None:
            numbers |= {"mask AP": masks.AP, "mask AP50": masks.AP50}
        return numbers

    @property
    def metrics(self) -> dict[str, float]:
        """All metrics by column head, 0..1; -1 means nothing to find."""
        return {**(self.precision.numbers() if self.precision else {}), **self.masks}


@dataclass(frozen=True)
class Comparison:
    """Rows in the order of the sources, and what they were measured on."""

    rows: tuple[Row, ...]
    measured_on: str
    timed_on: str
    batch_size: int
    load: float = 0.0  # before it was timed: how many processes computed, on average

    def doubts(self) -> list[str]:
        """Return why the times cannot be trusted; empty if they can, and without times."""
        scatters = [(row.name, row.cost.scatter) for row in self.rows if row.cost is not None]
        return doubts(self.load, scatters) if scatters else []

    def to_json(self) -> dict[str, Any]:
        """Return plain values; metrics are in 0..1, and None means nothing to find."""
        tree: dict[str, Any] = {
            "measured_on": self.measured_on,
            "timed_on": self.timed_on,
            "batch_size": self.batch_size,
            "load": self.load,
            "doubts": self.doubts(),
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
        plain: dict[str, Any] = absent_as_none(tree)
        return plain

    def write_json(self, path: Path) -> None:
        """Write `to_json` to a file."""
        write_text(path, json.dumps(self.to_json(), indent=1, ensure_ascii=False) + "\n")

    def tables(self) -> list[Grid]:
        """Return the tables of costs, AP, and mask metrics, as text.

        A missing number is "–". A table without any number is left out.
        """
        per_second = "images/s" if self.batch_size == 1 else f"images/s, batch {self.batch_size}"
        costs = ("params", "GMACs", "latency", per_second, "speed", "memory")
        tables: list[Grid] = []
        if any(row.cost for row in self.rows):
            tables.append((costs, [_cost_cells(row.cost) for row in self.rows]))
        if any(row.precision for row in self.rows):
            tables.append((PRECISIONS, [_per_cents(row.metrics, PRECISIONS) for row in self.rows]))
        if any(row.masks for row in self.rows):
            tables.append((MASKS, [_per_cents(row.masks, MASKS) for row in self.rows]))
        return tables

    def notes(self) -> list[str]:
        """Return the sentences below the tables."""
        notes = [f"{row.name}: {row.note}" for row in self.rows if row.note]
        of_masks = " of boxes, PQ and mask AP" if any(row.masks for row in self.rows) else ""
        if any(row.precision for row in self.rows):
            notes.append(f"AP{of_masks} in percent, on {self.measured_on}")
        if any(row.cost for row in self.rows):
            notes += [
                f"timed on {self.timed_on}; models take turns, medians over rounds, without "
                "reading images",
                "GMACs are 10⁹ multiply-adds, which the paper calls GFLOPS; elementwise arithmetic "
                "and non-maximum suppression are not counted",
                "speed is the first row's latency divided by this row's; memory is the weights and "
                "the tensors that exist at the same time, for one image",
            ]
        return notes

    def table(self) -> "RenderableType":
        """Return the tables and the notes for a rich console."""
        from rich.box import SIMPLE_HEAD
        from rich.console import Group
        from rich.table import Column, Table
        from rich.text import Text

        shown: list[RenderableType] = []
        for heads, rows in self.tables():
            # Names are not cut off, because two could then look the same.
            names = Column("", overflow="fold")
            table = Table(names, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
            for head in heads:
                table.add_column(head, justify="right")
            for row, cells in zip(self.rows, rows, strict=True):
                table.add_row(Text(row.name), *cells)
            shown.append(table)
        shown += [Text(f"do not trust these times: {each}") for each in self.doubts()]
        return Group(*shown, Text("\n".join(self.notes()), style="dim"))


def compare(
    sources: Sequence[Source],
    data: str | Path | DetectionDataset | None = None,
    *,
    split: str = "val",
    format: str | None = None,
    boxes: str | None = None,
    rounds: int = 10,
    batch_size: int = 4,
    workers: Workers = "auto",
    short_side_px: int = 800,
    device: torch.device | str = "cpu",
    progress: bool = False,
    accept_license: str | None = None,
    load: Load = load_on,
) -> Comparison:
    """Compare the cost of models and, on a split of `data`, their AP.

    `sources` are detectors, engines, and whatever else `find_candidates` takes. Models that are
    loaded here run on `device`: "auto", "cpu", "cuda" or "cuda:1". Models with random weights see
    images with a short side of `short_side_px`; the others store theirs. Each candidate is measured
    on the classes that it shares with the data by name. Without data, only the cost is measured, on
    noise of the size of the paper's example. Each model is timed `rounds` times on single images
    and on batches of `batch_size`. `accept_license` names the terms of weights that are not free
    for every use. `load` returns the model of a name, for another engine than PyTorch's.

    Raises ConfigError if there is no source, a count is below 1, saved detections come without
    data, or this is one of several processes, and whatever loading a candidate or reading the data
    raises. A model that does not run, or shares no class with the data, keeps its row, with a note.
    """
    require_single_process("compare times one model at a time")
    with init_distributed(str(device)) as process:
        device = process.device
    if not sources:
        raise ConfigError("nothing to compare: name at least one run, model or detections file")
    if rounds < 1 or batch_size < 1:
        raise ConfigError(f"rounds = {rounds}, batch_size = {batch_size}: at least 1 of each")
    dataset = open_dataset(data, split, format, boxes) if isinstance(data, str | Path) else data
    preprocessing = Preprocessing(short_side_px, round(short_side_px * 5 / 3))
    categories = None if dataset is None else dataset.categories
    with accepting(accept_license):
        candidates = find_candidates(sources, categories, preprocessing, device, load)
    if dataset is None and any(each.detections for each in candidates):
        raise ConfigError("saved detections can only be measured on their data: --data")
    load_before = load_average()
    batches = [_single_image_batches(each.engine, dataset, device) for each in candidates]
    candidates = check_candidates(candidates, dataset, batches)
    measured = [_evaluate(each, dataset, workers, progress) for each in candidates]
    timed = {
        number: (each.engine, images)
        for number, ((each, _), images) in enumerate(zip(measured, batches, strict=True))
        if each.engine is not None and each.is_timed
    }
    costs = dict(zip(timed, _measure_costs(list(timed.values()), batch_size, rounds), strict=True))
    rows = tuple(
        Row(each.name, each.note, costs.get(number), precision)
        for number, (each, precision) in enumerate(measured)
    )
    return Comparison(
        rows, _measured_on(dataset), _timed_on(dataset, device), batch_size, load_before
    )


def _evaluate(
    candidate: Candidate, dataset: DetectionDataset | None, workers: Workers, progress: bool
) -> tuple[Candidate, Report | None]:
    """Return the candidate and its report; a model that fails keeps its row, without AP."""
    source = candidate.engine or candidate.detections
    assert source is not None, "a candidate is an engine or a file"
    if dataset is None or not candidate.is_scored:
        return candidate, None
    try:
        return candidate, evaluate(source, dataset, workers=workers, progress=progress)
    except WeightsError as error:  # its outputs are not finite
        return candidate.not_measured(str(error)), None


def _measure_costs(
    timed: Sequence[tuple[Engine, list[Batch]]], batch_size: int, rounds: int
) -> list[Cost]:
    if not timed:
        return []
    engines, batches = zip(*timed, strict=True)
    return measure_costs(engines, batches, batch_size, rounds)


def _single_image_batches(
    engine: Engine | None, dataset: DetectionDataset | None, device: torch.device | str
) -> list[Batch]:
    """Return evenly spaced images of a data set, each in a batch of its own; else one of noise."""
    if engine is None:
        return []
    preprocessing = engine.card.preprocessing
    if dataset is None:
        noise = torch.randint(256, (3, *NOISE_SIZE_PX), dtype=torch.uint8)
        return [Batch.from_images([preprocess(noise, preprocessing)]).to(device)]
    readable = np.delete(np.arange(len(dataset)), list(find_unreadable(dataset)))
    count = min(TIMED_IMAGES, len(readable))
    chosen = np.linspace(0, len(readable) - 1, num=count).round().astype(int)
    return [
        Batch.from_images(
            [preprocess(read_image(dataset.path(image), dataset.size_px(image)), preprocessing)]
        ).to(device)
        for image in readable[chosen].tolist()
    ]


def _measured_on(dataset: DetectionDataset | None) -> str:
    if dataset is None:
        return ""
    boxes = int((~dataset.crowd).sum())
    return f"{len(dataset)} images with {boxes} boxes of {dataset.source.name}"


def _timed_on(dataset: DetectionDataset | None, device: torch.device | str) -> str:
    images = "noise" if dataset is None else f"{min(TIMED_IMAGES, len(dataset))} of the images"
    if torch.device(device).type == "cuda":
        return f"{images}, {torch.cuda.get_device_name(device)}"
    return f"{images}, {processor_name()}, {counted(torch.get_num_threads(), 'thread')}"


def processor_name() -> str:
    """Return the name of this machine's processor."""
    cpus = Path("/proc/cpuinfo")
    lines = read_text(cpus).splitlines() if cpus.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _cost_cells(cost: Cost | None) -> tuple[str, ...]:
    if cost is None:
        return ("–",) * 6
    gmacs = cost.gmacs
    return (
        "–" if cost.parameters is None else f"{cost.parameters / 1e6:.1f}M",
        "–" if gmacs is None else f"{gmacs:.3g}" if gmacs < 100 else f"{gmacs:.0f}",
        f"{1000 * cost.latency_s:.3g} ms" if cost.latency_s < 1 else f"{cost.latency_s:.2f} s",
        f"{cost.images_per_s:.3g}",
        f"{cost.speedup:.2f}×" if cost.speedup >= 0.1 else f"{cost.speedup:.2g}×",
        "–" if cost.peak_bytes is None else f"{cost.peak_bytes / 1e6:.0f} MB",
    )


def _per_cents(values: Mapping[str, float], names: Sequence[str]) -> tuple[str, ...]:
    return tuple(percent(values.get(name)) for name in names)
