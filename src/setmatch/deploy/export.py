"""`export`: write a model as a file for other runtimes, and verify it before it has its name."""

from pathlib import Path
from typing import Literal

from setmatch.deploy.first_difference import first_difference
from setmatch.deploy.onnx import require_libraries, to_onnx
from setmatch.deploy.traced import single_on_cpu
from setmatch.deploy.verify import Verification, images_to_verify, verify
from setmatch.deploy.verify_ends import verify_ends
from setmatch.errors import ConfigError
from setmatch.files.writing import atomic_file, require_file
from setmatch.inference.engines.onnxruntime import OnnxRuntimeEngine, network_of
from setmatch.models.detector import Detector, require_weights

LEAST_SIDE_PX, MOST_SIDE_PX = 32, 8192
Format = Literal["onnx"]
SUFFIXES: dict[str, Format] = {".onnx": "onnx"}


def export(
    model: Detector,
    path: str | Path,
    *,
    size_px: tuple[int, int] | None = None,
    end_to_end: bool = False,
    verify_on: str | Path | None = None,
) -> Verification:
    """Write a detector as an ONNX file, and return how it compares with the model in PyTorch.

    The file is run on several images, image sizes and batch sizes. Each detection must be found
    again within 0.001 pixels and a score of 0.0001; otherwise there is no file. `setmatch.load`
    opens it; its metadata has the classes, the image size, the license and the SHA-256 of the
    weights.

    Parameters
    ----------
    model
        A detection transformer. It is not changed.
    path
        The file to write, which ends in .onnx.
    size_px
        (height, width) of the network's input: every image is resized to it, whatever its own
        sides. By default the file takes any size, and images are resized as the model's card says.
    end_to_end
        Write a graph that takes one uint8 image (H, W, 3) of any size and a score threshold, and
        returns boxes in its pixels, class indices, scores and, from a mask head, masks. Otherwise
        it takes a batch of preprocessed images and returns logits and boxes as fractions.
    verify_on
        A folder, file or pattern of images to compare on. The default are generated scenes.

    Raises
    ------
    VerificationError
        The file does not answer as the model; the message says on which image, and which part of
        the graph differs first.
    ConfigError
        The model cannot be exported, a size is out of range, or the file cannot be written.
    DataError
        An image of `verify_on` cannot be read.
    ExtraMissingError
        The libraries of the extra `onnx` are not installed.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"{path}: name a file that ends in {', '.join(SUFFIXES)}")
    _require_size(size_px)
    require_weights(model, "export")
    require_file(path)
    require_libraries()
    images = images_to_verify(verify_on)
    model = single_on_cpu(model)
    graph = to_onnx(model, size_px, end_to_end)
    with atomic_file(path) as temporary:
        graph.save(temporary)
        engine = OnnxRuntimeEngine(temporary)
        core = network_of(graph.model) if end_to_end else graph.model
        checks = verify(
            model,
            engine.predict,
            engine.card.preprocessing,
            images,
            lambda pixels: first_difference(core, graph.program, pixels),
        )
        if end_to_end:
            checks += verify_ends(model, graph.model, engine.card.preprocessing, images)
    return Verification(tuple(checks))


def _require_size(size_px: tuple[int, int] | None) -> None:
    if size_px is not None and not all(LEAST_SIDE_PX <= each <= MOST_SIDE_PX for each in size_px):
        height, width = size_px
        raise ConfigError(
            f"size {height}x{width}: sides can be {LEAST_SIDE_PX} to {MOST_SIDE_PX} pixels"
        )
