"""What a benchmark measures: a row for each model, engine and number of threads."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from setmatch.errors import counted
from setmatch.evaluation.timing import Times, doubts
from setmatch.files.writing import write_text

if TYPE_CHECKING:
    from rich.console import RenderableType

LATENCY = ("threads", "median", "p90", "p99")
THROUGHPUT = ("images/s", "best batch", "memory")
MODEL = ("input", "file", "AP")
Grid = tuple[str, tuple[str, ...], list[tuple[str, ...]]]  # title, heads, and cells of each row


@dataclass(frozen=True)
class Speed:
    """Times of one model and engine: the seconds of each round of single images, and of batches.

    `peak_bytes` is the most memory that its process had up to the end of the first round.
    """

    size_px: tuple[int, int]
    rounds_s: tuple[tuple[float, ...], ...]
    batches_s: dict[int, float]
    peak_bytes: int
    file_bytes: int

    @property
    def times(self) -> Times:
        """The times of single images."""
        return Times(self.rounds_s)

    @property
    def best(self) -> tuple[float, int]:
        """The most images per second, and the batch size that reaches it."""
        return max((size / seconds, size) for size, seconds in self.batches_s.items())


@dataclass(frozen=True)
class Row:
    """A model with an engine; `speed` is None, and `note` says why, if it does not run."""

    model: str
    engine: str
    threads: int
    speed: Speed | None
    AP: float | None = None
    note: str = ""

    def latency(self) -> tuple[str, ...]:
        """Return a text for each of LATENCY."""
        if self.speed is None:
            return (str(self.threads), "–", "–", "–")
        times = self.speed.times
        quantiles = (times.median_s, times.quantile_s(0.9), times.quantile_s(0.99))
        return (str(self.threads), *map(_ms, quantiles))

    def throughput(self) -> tuple[str, ...]:
        """Return a text for each of THROUGHPUT."""
        if self.speed is None:
            return ("–", "–", "–")
        most, batch = self.speed.best
        memory = f"{self.speed.peak_bytes / 1e6:.0f} MB"
        return (f"{1 / self.speed.times.median_s:.3g}", f"{most:.3g} by {batch}", memory)

    def described(self) -> tuple[str, ...]:
        """Return a text for each of MODEL."""
        ap = "–" if self.AP is None or self.AP < 0 else f"{100 * self.AP:.1f}"
        if self.speed is None:
            return ("–", "–", ap)
        input_px = "×".join(map(str, self.speed.size_px))
        return (input_px, f"{self.speed.file_bytes / 1e6:.1f} MB", ap)


@dataclass(frozen=True)
class Benchmark:
    """All rows, the machine, and its load before: how many processes computed, on average."""

    rows: tuple[Row, ...]
    machine: str
    load: float
    rounds: int
    measured_on: str = ""

    def doubts(self) -> list[str]:
        """Return why the times cannot be trusted; empty if they can."""
        scatters = [
            (
                f"{row.model}, {row.engine}, {counted(row.threads, 'thread')}",
                row.speed.times.scatter,
            )
            for row in self.rows
            if row.speed is not None
        ]
        return doubts(self.load, scatters)

    def notes(self) -> list[str]:
        """Return the sentences below the table."""
        notes = [f"{row.model}, {row.engine}: {row.note}" for row in self.rows if row.note]
        measured = f"; AP in percent, on {self.measured_on}" if self.measured_on else ""
        return [
            *notes,
            f"{self.machine}; models take turns in {self.rounds} rounds, each in a process of its "
            f"own, on random pixels, without reading and resizing images{measured}",
            "memory is the most that the process had with one image at a time; the file of a "
            "model in PyTorch is its weights in memory",
        ]

    def grids(self) -> list[Grid]:
        """Return the tables, as text."""
        return [
            ("Latency of one image", LATENCY, [row.latency() for row in self.rows]),
            ("Throughput and memory", THROUGHPUT, [row.throughput() for row in self.rows]),
            ("Size and accuracy", MODEL, [row.described() for row in self.rows]),
        ]

    def table(self) -> "RenderableType":
        """Return the tables and the notes for a rich console."""
        from rich.box import SIMPLE_HEAD
        from rich.console import Group
        from rich.table import Column, Table
        from rich.text import Text

        tables = []
        for _, heads, rows in self.grids():
            # Names are not cut off, because two could then look the same.
            names = (Column("", overflow="fold"), Column("engine", overflow="fold"))
            table = Table(*names, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
            for head in heads:
                table.add_column(head, justify="right", no_wrap=True)
            for row, cells in zip(self.rows, rows, strict=True):
                table.add_row(Text(row.model), row.engine, *cells)
            tables.append(table)
        doubts = Text("\n".join(f"do not trust these times: {each}" for each in self.doubts()))
        return Group(*tables, *([doubts] if doubts else []), Text("\n".join(self.notes())))

    def to_json(self) -> dict[str, Any]:
        """Return plain values; times are in seconds."""
        return {
            "machine": self.machine,
            "load": self.load,
            "rounds": self.rounds,
            "measured_on": self.measured_on,
            "doubts": self.doubts(),
            "rows": [_plain(row) for row in self.rows],
        }

    def write_json(self, path: Path) -> None:
        """Write `to_json` to a file."""
        write_text(path, json.dumps(self.to_json(), indent=1, ensure_ascii=False) + "\n")


def _plain(row: Row) -> dict[str, Any]:
    tree = asdict(row)
    if row.speed is None:
        return tree
    speed, (most, batch) = row.speed, row.speed.best
    times = speed.times
    tree["speed"] = {
        "size_px": list(speed.size_px),
        "latency_s": {
            "median": times.median_s,
            "p90": times.quantile_s(0.9),
            "p99": times.quantile_s(0.99),
        },
        "images_per_s": 1 / times.median_s,
        "best_batch": {"images_per_s": most, "batch": batch},
        "batches_s": {str(size): seconds for size, seconds in speed.batches_s.items()},
        "peak_bytes": speed.peak_bytes,
        "file_bytes": speed.file_bytes,
        "scatter": times.scatter,
    }
    return tree


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.2f} s"


def fastest(rows: Sequence[Row]) -> Row | None:
    """Return the row with the least median latency; None if fewer than two rows have one."""
    timed = [(row.speed.times.median_s, number) for number, row in enumerate(rows) if row.speed]
    return rows[min(timed)[1]] if len(timed) > 1 else None
