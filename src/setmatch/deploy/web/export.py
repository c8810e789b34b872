"""`export_site`: write a page that runs a model in the browser, and verify the model in it."""

from pathlib import Path

from setmatch.deploy.formats.onnx import ONNX, OnnxGraph, exported_of, to_onnx
from setmatch.deploy.formats.traced import single_on_cpu
from setmatch.deploy.precision.precision import LowerPrecision
from setmatch.deploy.verification.verify import Verification, images_to_verify, verify
from setmatch.deploy.web.known_image import known_image
from setmatch.deploy.web.network import ranking_network
from setmatch.deploy.web.runtime import local_runtime, published_runtime
from setmatch.deploy.web.site import require_site, write_site
from setmatch.files.writing import atomic_folder, require_folder
from setmatch.inference.engines.onnxruntime import OnnxRuntimeEngine
from setmatch.models.detector import Detector


def export_site(
    model: Detector,
    folder: Path,
    *,
    size_px: tuple[int, int] | None = None,
    verify_on: str | Path | None = None,
    runtime: str | Path | None = None,
    lower: LowerPrecision | None = None,
) -> Verification:
    """Write a folder with a page that runs a detector on the machine of whoever opens it.

    The model inside is an ONNX file, verified as that of `export`. On every machine, the page
    detects in the first image that it was verified on, and shows how far its boxes are off.
    `runtime` is a folder of the npm package onnxruntime-web, whose files are copied into the
    folder; by default the page loads them from a content delivery network, with their hashes.

    The other parameters and the errors are those of `export`. The folder is written whole or not at
    all; one that has other files than those of a page is refused.
    """
    require_site(folder)
    require_folder(folder)
    files = published_runtime() if runtime is None else local_runtime(runtime)
    if lower is not None and lower.name == "int8":
        files = files.of_processor()
    ONNX.require_libraries()
    images = images_to_verify(verify_on)
    model = single_on_cpu(model)
    traced = to_onnx(model, size_px, end_to_end=True)
    graph = OnnxGraph(ranking_network(traced.model), traced.program)
    with atomic_folder(folder, replace=True) as temporary:
        path = temporary / "model.onnx"
        graph.save(path)
        engine = OnnxRuntimeEngine(path)
        preprocessing = engine.card.preprocessing
        checks = verify(model, engine.predict, preprocessing, images, graph.first_difference)
        loss = (
            lower.rewrite(path, ONNX.precisions[lower.name], OnnxRuntimeEngine) if lower else None
        )
        known = known_image(path, images[0].pixels)
        write_site(temporary, path, exported_of(graph.model), known, files)
        path.unlink()  # it is in the page
    written = tuple(each for each in sorted(folder.rglob("*")) if each.is_file())
    return Verification(tuple(checks), written, loss)
