"""`setmatch benchmark`: how fast models run with each engine."""

from pathlib import Path
from typing import Annotated

from setmatch.cli.export import size_px_of
from setmatch.cli.options import Required, Rounds, Split
from setmatch.cli.written import say_written
from setmatch.errors import ConfigError
from setmatch.files.writing import require_file, require_page


def benchmark(
    *models: Annotated[str, Required],
    engines: str = "own",
    threads: str = "1",
    size: str = "dynamic",
    data: str | None = None,
    split: Split = "val",
    rounds: Rounds = 10,
    json: Path | None = None,
    html: Path | None = None,
) -> None:
    """Time models with each engine: latency, throughput, memory, file size and AP.

    For example:

        setmatch benchmark runs/first detector.onnx --html speed.html
        setmatch benchmark runs/first --engines eager,onnxruntime,openvino --threads 1,2

    Models take turns on the CPU, each in a process of its own. The result says if the machine was
    busy meanwhile.

    Parameters
    ----------
    models
        Trained models: run folders, weights files, published names, hub ids, or exported files.
    engines
        Engines, separated by commas: eager, onnxruntime, openvino, compiled, or own. own runs an
        exported file with its own engine, and weights with eager. Other engines first export the
        weights and verify the file, once; for compiled, this takes minutes.
    threads
        Numbers of threads, separated by commas.
    size
        Height and width of the network's input, as in 480x640 (640 is 640x640). With dynamic, the
        model resizes an image of 480x640 as usual.
    data
        Data set to measure AP on: a folder, a YOLO data.yaml, or a COCO JSON file.
    json
        Write the results to this JSON file.
    html
        Write an HTML page to this file.
    """
    from rich.console import Console

    from setmatch.deploy.benchmark.benchmark import benchmark
    from setmatch.deploy.benchmark.html import write_page

    if json is not None:
        require_file(json)
    if html is not None:
        require_page(html)
    result = benchmark(
        models,
        engines=engines.split(","),
        threads=_numbers(threads),
        size_px=size_px_of(size),
        rounds=rounds,
        data=data,
        split=split,
        progress=True,
    )
    Console().print(result.table())
    if json is not None:
        result.write_json(json)
    if html is not None:
        write_page(result, html)
    say_written(json, html)


def _numbers(text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.isdecimal() for part in parts):
        raise ConfigError(f"--threads {text}: give numbers separated by commas, as in 1,2")
    return [int(part) for part in parts]
