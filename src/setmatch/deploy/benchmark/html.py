"""Write a benchmark as one self-contained HTML page."""

from pathlib import Path

from setmatch.deploy.benchmark.results import Benchmark, fastest
from setmatch.html.page import write
from setmatch.html.tables import Bar, Row, Table


def write_page(benchmark: Benchmark, path: Path) -> None:
    """Write the benchmark as one self-contained HTML page."""
    best, bars = fastest(benchmark.rows), _bars(benchmark)
    tables = []
    for number, (title, heads, cells) in enumerate(benchmark.grids()):
        rows = []
        for row, texts, bar in zip(benchmark.rows, cells, bars, strict=True):
            shown: list[str | Bar] = [row.model, row.engine, *([] if number else [bar]), *texts]
            rows.append(Row(shown, bold=row is best))
        tables.append((title, Table(["model", "engine", *([] if number else [""]), *heads], rows)))
    write(
        path,
        "deploy/benchmark/benchmark.html",
        machine=benchmark.machine,
        count=len(benchmark.rows),
        tables=tables,
        doubts=benchmark.doubts(),
        notes=benchmark.notes(),
    )


def _bars(benchmark: Benchmark) -> list[Bar]:
    """Return a bar for each row, as long as it is fast."""
    medians_s = [row.speed.times.median_s if row.speed else None for row in benchmark.rows]
    least_s = min(seconds for seconds in medians_s if seconds is not None)
    return [Bar(-1 if seconds is None else least_s / seconds) for seconds in medians_s]
