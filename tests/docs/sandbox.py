"""A folder with what the documentation talks about: small data, images and two short runs."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from setmatch.data.convert import convert_dataset
from setmatch.data.synthetic.scenes import write_scenes
from setmatch.inference.video.writing import VideoWriter
from setmatch.training.train import train

SHORTEST = (
    "data.workers=0",
    "train.batch_size=8",
    "train.micro_batch=8",
    "train.evaluate_every=1000",
)


def make_sandbox(folder: Path) -> Path:
    """Write data sets in three formats, a few images, and the runs `runs/first`, `runs/second`."""
    write_scenes(folder / "my_data", 16, 8, 96, 0, 0)
    write_corners(folder / "my_data", folder / "my_data_with_corners")
    write_scenes(folder / "my_panoptic_data", 8, 8, 96, 0, 0, panoptic=True)
    write_scenes(folder / "aerial_photos", 8, 2, 340, 0, 0)
    for to in ("yolo", "voc"):
        convert_dataset(folder / "my_data", folder / f"my_{to}_data", to)
    images = sorted((folder / "my_data").rglob("*.jpg"))
    (folder / "holiday").mkdir()
    for name, image in zip(("street.jpg", "cells.jpg", "holiday/1.jpg"), images, strict=False):
        shutil.copy(image, folder / name)
    write_clip(folder / "clip.mp4", images)
    for name in ("first", "second"):
        run = folder / "runs" / name
        train(folder / "my_data", "setmatch_n", out=run, epochs=1, overrides=SHORTEST)
    return folder


def write_corners(data: Path, copy: Path) -> None:
    """Copy a data set, and write its boxes as corners, which COCO files should not have."""
    shutil.copytree(data, copy)
    for path in (copy / "annotations").glob("*.json"):
        tree = json.loads(path.read_text())
        for row in tree["annotations"]:
            x, y, width, height = row["bbox"]
            row["bbox"] = [x, y, x + width, y + height]
        path.write_text(json.dumps(tree))


def write_clip(path: Path, images: Sequence[Path]) -> None:
    """Write a video of a frame a second, and a second one of the same in a folder."""
    writer = VideoWriter(path, (96, 96), 1)
    for number, image in enumerate(images[:12]):
        writer.write(Image.open(image).convert("RGB"), number)
    writer.close()
    (path.parent / "clips").mkdir()
    shutil.copy(path, path.parent / "clips")


def keep_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every command of the documentation do its work once, at the smallest size.

    The pages show budgets that make sense for a reader: minutes, thousands of scenes, ten rounds.
    """
    import torch

    import setmatch
    import setmatch.ablation.run as ablation
    import setmatch.demo.browser as browser
    import setmatch.demo.demo as demo
    import setmatch.deploy.benchmark.benchmark as benchmark
    import setmatch.deploy.load as engines
    import setmatch.deploy.server.run as server
    import setmatch.evaluation.compare.compare as compare
    import setmatch.training.train as training
    import setmatch.tuning
    import setmatch.tuning.search as tuning

    def at_most(function: Any, limits: dict[str, Any]) -> Any:
        def limited(*positional: Any, **named: Any) -> Any:
            return function(*positional, **{**named, **limits})

        return limited

    def short_run(*positional: Any, overrides: Any = (), **named: Any) -> Any:
        named.update(epochs=1, minutes=None)
        return train(*positional, overrides=(*overrides, *SHORTEST), **named)

    def short_search(*positional: Any, overrides: Any = (), **named: Any) -> Any:
        named.update(epochs=1, trials=1)
        return searched(*positional, overrides=(*overrides, *SHORTEST), **named)

    def any_free_port(host: str, port: int) -> Any:
        return opened(host, 0)

    def few_scenes(out: Path, train: int, val: int, *others: Any) -> None:
        write_scenes(out, train, 8, *others)

    def trace_once(network: Any, inputs: Any, **options: Any) -> Any:
        # The same weights are exported to several formats and engines; tracing takes longest.
        weights = tuple(float(value.sum()) for value in network.state_dict().values())
        key = (inputs[0].shape, str(options["dynamic_shapes"]), weights)
        if key not in traced:
            traced[key] = trace(network, inputs, **options)
        return traced[key]

    traced: dict[Any, Any] = {}
    trace, opened, searched = torch.onnx.export, server.opened, tuning.tune
    arm = ("data.workers=0", "train.epochs=1")
    for module, name, short in (
        # First the lazy name: it would otherwise be resolved to, and restored to, the short run.
        (setmatch, "train", short_run),
        (training, "train", short_run),
        (setmatch.tuning, "tune", short_search),
        (tuning, "tune", short_search),
        (browser, "export", lambda *model, **options: None),
        (demo, "demo", at_most(demo.demo, {"scenes": 16, "minutes": 0.01})),
        (compare, "compare", at_most(compare.compare, {"rounds": 1, "short_side_px": 96})),
        (benchmark, "benchmark", at_most(benchmark.benchmark, {"rounds": 1})),
        (torch.onnx, "export", trace_once),
        (engines, "fastest_engine", lambda detector, openers: "eager"),  # others need an export
        (server, "opened", any_free_port),
        (server, "server_of", lambda *app: SimpleNamespace(run=lambda sockets: None)),
        (ablation, "write_scenes", few_scenes),
        (ablation, "ablate", at_most(ablation.ablate, {"scenes": 32, "overrides": arm})),
    ):
        monkeypatch.setattr(module, name, short, raising=False)
