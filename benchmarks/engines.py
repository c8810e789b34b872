"""How fast every engine runs setmatch_n and detr_r50, in float32 and int8, and beside other models.

All candidates of a model take turns in one process. Pixels and weights are random. A model of
another project takes part as an ONNX file, which that project wrote in an environment of its own:

    python benchmarks/engines.py --peer yolo26n.onnx --json benchmarks/engines.json
"""

import argparse
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from setmatch.data.open import open_dataset
from setmatch.data.synthetic.scenes import write_scenes
from setmatch.deploy.formats.onnx import ONNX, to_onnx
from setmatch.deploy.formats.openvino import OPENVINO, converted
from setmatch.inference.engines.eager import EagerEngine
from setmatch.inference.engines.onnx_session import OnnxSession
from setmatch.inference.engines.openvino_session import OpenVinoSession
from setmatch.inference.engines.session import output_names
from setmatch.models.backbones.folding import ConvNorm
from setmatch.models.detector import Detector
from setmatch.models.layers.cells import normalize
from setmatch.models.registry import build
from setmatch.structures.batch import Batch
from setmatch.structures.metadata import Categories, ModelCard, Preprocessing
from timing import publish, time_interleaved

SIZES_PX = {"setmatch_n": (640, 640), "detr_r50": (800, 1066)}
SESSIONS = {"onnxruntime": OnnxSession, "openvino": OpenVinoSession}
Candidates = dict[str, Callable[[], object]]


class NormsApart(ConvNorm):
    """A convolution and its batch norm one after the other, as before 2026-11-30."""

    def forward(self, features, cells=None):  # type: ignore[no-untyped-def]
        """Return norm(conv(x))."""
        return normalize(self[1], self[0](features), cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=list(SIZES_PX))
    parser.add_argument("--peer", type=Path, action="append", default=[])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--clock", choices=["wall", "processor"], default="wall")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    clock = time.perf_counter if options.clock == "wall" else time.process_time
    results: dict[str, object] = {"clock": options.clock}
    with TemporaryDirectory() as folder:
        for preset in options.models:
            place = Path(folder, preset)
            place.mkdir()
            detector = _built(preset)
            _write_files(detector, place)
            peers = options.peer if SIZES_PX[preset] == (640, 640) else []
            for threads in options.threads:
                torch.set_num_threads(threads)
                candidates = _candidates(detector, place, peers, threads)
                seconds = time_interleaved(candidates, options.rounds, 3, clock)
                results[f"{preset}, {threads} thread(s)"] = _figures(seconds)
    title = "one image of " + ", ".join(
        f"{height}x{width} by {preset}" for preset, (height, width) in SIZES_PX.items()
    )
    publish(title, results, options.json)


def _figures(seconds: Mapping[str, float]) -> dict[str, object]:
    """Return milliseconds, and how many times as fast as the eager engine each candidate is."""
    eager = seconds["eager"]
    return {
        "milliseconds": {name: round(1000 * taken, 1) for name, taken in seconds.items()},
        "speed": {name: round(eager / taken, 3) for name, taken in seconds.items()},
    }


def _built(preset: str) -> Detector:
    """Return a detector of random weights; batch norms have statistics of their own, too."""
    torch.manual_seed(0)
    names = Categories(tuple(range(80)), tuple(f"class {number}" for number in range(80)))
    height, width = SIZES_PX[preset]
    detector = build(ModelCard(preset, {}, names, Preprocessing(height, width))).eval()
    for module in detector.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            assert module.running_mean is not None, "batch norms keep statistics"
            module.running_mean.normal_(0, 0.1)
    return detector


def _write_files(detector: Detector, folder: Path) -> None:
    """Write a file for each engine, in float32 and in int8, for images of any size."""
    write_scenes(folder / "data", 1, 8, 320, 0, 0)
    training = open_dataset(folder / "data", "train")
    graph = to_onnx(detector)
    for kind in (ONNX, OPENVINO):
        written = converted(graph) if kind is OPENVINO else graph
        for name in ("model", "int8"):
            written.save(folder / f"{name}{kind.suffix}")
        kind.precisions["int8"].rewrite(folder / f"int8{kind.suffix}", training)


def _candidates(detector: Detector, folder: Path, peers: list[Path], threads: int) -> Candidates:
    size_px = SIZES_PX[detector.card.preset]
    pixels = np.random.default_rng(0).standard_normal((1, 3, *size_px), dtype=np.float32)
    batch = Batch.from_images([torch.from_numpy(pixels[0])])
    apart = _built(detector.card.preset)
    for module in apart.modules():
        if type(module) is ConvNorm:
            module.__class__ = NormsApart
    found: Candidates = {
        "eager": partial(EagerEngine(detector).detect, batch, [size_px]),
        "eager, norms apart": partial(EagerEngine(apart).detect, batch, [size_px]),
    }
    outputs = output_names(has_masks=False)
    for engine, suffix in (("onnxruntime", ".onnx"), ("openvino", ".xml")):
        for name, label in (("model", engine), ("int8", f"{engine}, int8")):
            session = SESSIONS[engine](folder / f"{name}{suffix}", threads=threads)
            found[label] = partial(session.run, outputs, {"pixels": pixels})
    for peer in peers:
        found |= _peer(peer, pixels, threads)
    return found


def _peer(path: Path, pixels: np.ndarray, threads: int) -> Candidates:
    """Return an ONNX file of another project in both runtimes, set up as ours are."""
    import onnxruntime
    import openvino

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    inputs = {session.get_inputs()[0].name: pixels}
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
    }
    request = openvino.Core().compile_model(str(path), "CPU", settings).create_infer_request()
    return {
        f"{path.stem}, onnxruntime": partial(session.run, None, inputs),
        f"{path.stem}, openvino": partial(request.infer, {0: pixels}),
    }


if __name__ == "__main__":
    main()
