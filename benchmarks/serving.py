"""`setmatch serve` beside a plain FastAPI around the same model: images/s and p99 at 16 clients.

    python benchmarks/serving.py                       # bloodcells_n, 16 clients
    python benchmarks/serving.py --images photos/ --model dfine_s --seconds 20

The servers run in processes of their own and take turns, round by round, so that a busy machine
slows all; their processor time is measured too, for a machine that is never idle. A plain one is
what one writes first: a function that decodes the image and predicts, with the same engine or with
eager PyTorch. FastAPI calls it in threads (`def`) or in the event loop (`async def`); both are
measured, and the faster one counts.
"""

import argparse
import asyncio
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from timing import publish

RESULTS = Path(__file__).with_suffix(".json")
HOST = "127.0.0.1"
KINDS = {  # how a plain server is written, by its name
    "plain, def": "def",
    "plain, async def": "async def",
}
PLAIN = """
import io, sys
import numpy, uvicorn
from fastapi import FastAPI, UploadFile
from PIL import Image
import setmatch as sm

model = sm.load({model!r}, engine={engine!r})
app = FastAPI()

@app.post("/v1/detect")
{kind} detect(image: UploadFile):
    found = sm.predict(model, Image.open(io.BytesIO(image.file.read())).convert("RGB"))
    return found.to_dicts()

server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
async def run():
    import asyncio
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    print("port", server.servers[0].sockets[0].getsockname()[1], "until", flush=True)
    await task
import asyncio
asyncio.run(run())
"""


@dataclass
class Timed:
    """What one server did."""

    images: int = 0
    seconds: float = 0.0
    cpu_s: float = 0.0
    latencies_s: list[float] = field(default_factory=list)

    def row(self) -> dict[str, float]:
        """Return the throughput and how long clients wait."""
        latencies = sorted(self.latencies_s)
        return {
            "images_per_s": round(self.images / self.seconds, 2),
            "cpu_ms_per_image": round(1000 * self.cpu_s / self.images, 1),
            "median_ms": round(1000 * statistics.median(latencies), 1),
            "p99_ms": round(1000 * latencies[int(0.99 * (len(latencies) - 1))], 1),
            "images": self.images,
        }


@contextmanager
def running(commands: dict[str, list[str]]) -> Iterator[dict[str, tuple[str, int]]]:
    """Start servers, and yield the address and process of each when all respond."""
    started = {
        name: subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        for name, command in commands.items()
    }
    try:
        addresses = {}
        for name, process in started.items():
            assert process.stdout is not None
            found = re.search(r"(\d+) until", process.stdout.readline())
            assert found is not None, name
            addresses[name] = f"http://{HOST}:{found[1]}", process.pid
        yield addresses
    finally:
        for process in started.values():
            process.terminate()
        for process in started.values():
            process.wait()


def cpu_s(pid: int) -> float:
    """Return the processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(
    server: tuple[str, int], images: Sequence[bytes], clients: int, seconds: float
) -> Timed:
    """Let clients send one image after another for some seconds, and wait for all responses."""
    timed, (address, pid) = Timed(), server

    async def client(number: int, end: float) -> None:
        async with httpx.AsyncClient(base_url=address, timeout=300) as session:
            place = number
            while (started := time.perf_counter()) < end:
                files = {"image": ("a.jpg", images[place % len(images)], "image/jpeg")}
                response = await session.post("/v1/detect", files=files)
                response.raise_for_status()
                timed.latencies_s.append(time.perf_counter() - started)
                place += clients

    async def everyone() -> None:
        started = time.perf_counter()
        await asyncio.gather(*[client(number, started + seconds) for number in range(clients)])
        timed.seconds = time.perf_counter() - started

    before = cpu_s(pid)
    asyncio.run(everyone())
    timed.cpu_s = cpu_s(pid) - before
    timed.images = len(timed.latencies_s)
    return timed


def scenes(folder: Path) -> list[Path]:
    """Return generated photographs of 640 pixels."""
    from setmatch.data.synthetic.scenes import write_scenes

    write_scenes(folder, 16, 1, 640, 0, 0)
    return sorted(folder.rglob("*.jpg"))


def commands(model: str, engine: str, batch: int) -> dict[str, list[str]]:
    """Return the command line of each server."""
    served = [sys.executable, "-m", "setmatch", "serve", model, "--engine", engine, "--port", "0"]
    found = {"setmatch serve": [*served, "--max-batch", str(batch)]}
    engines = {engine, "eager"}
    for name, kind in KINDS.items():
        for plain_engine in sorted(engines):
            code = PLAIN.format(model=model, engine=plain_engine, kind=kind)
            found[f"{name}, {plain_engine}"] = [sys.executable, "-c", code]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="bloodcells_n")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--images", type=Path, help="a folder; generated scenes by default")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each server, a round")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    own: Path | None = given.images
    with tempfile.TemporaryDirectory() as folder:
        paths = scenes(Path(folder)) if own is None else sorted(own.rglob("*.jp*g"))
        images = [path.read_bytes() for path in paths[:64]]
    servers_of = commands(given.model, given.engine, given.batch)
    with running(servers_of) as servers:
        rounds: dict[str, list[Timed]] = {name: [] for name in servers}
        for address in servers.values():  # the first images take longest
            measure(address, images, given.clients, 1.0)
        for _ in range(given.rounds):
            for name, address in servers.items():
                rounds[name].append(measure(address, images, given.clients, given.seconds))
    report(rounds, given)


def report(rounds: dict[str, list[Timed]], given: argparse.Namespace) -> None:
    """Print a table and write it as JSON."""
    rows: dict[str, Any] = {}
    for name, parts in rounds.items():
        whole = Timed(
            sum(each.images for each in parts),
            sum(each.seconds for each in parts),
            sum(each.cpu_s for each in parts),
        )
        for each in parts:
            whole.latencies_s += each.latencies_s
        rows[name] = whole.row()
        print(f"{name:32} {rows[name]}")
    plain = max(
        (name for name in rows if name.startswith("plain")), key=lambda n: rows[n]["images_per_s"]
    )
    ratio = rows["setmatch serve"]["images_per_s"] / rows[plain]["images_per_s"]
    print(f"setmatch serve has {ratio:.2f} times the images/s of the best plain server ({plain})")
    facts = {
        "model": given.model,
        "engine": given.engine,
        "clients": given.clients,
        "cores": os.cpu_count(),
        "best_plain": plain,
        "ratio": round(ratio, 3),
        "servers": rows,
    }
    publish("setmatch serve beside a plain FastAPI around the same model", facts, given.out)


if __name__ == "__main__":
    main()
