"""`export`: write a model as a file for other runtimes, and verify it before it has its name."""

from collections.abc import Sequence
from pathlib import Path

from setmatch.argument_types import checked_except
from setmatch.deploy.formats.base import ExportFormat, require_size
from setmatch.deploy.formats.onnx import ONNX
from setmatch.deploy.formats.openvino import OPENVINO
from setmatch.deploy.formats.torch_package import TORCH
from setmatch.deploy.formats.traced import single_on_cpu
from setmatch.deploy.precision.precision import LowerPrecision, Precision, lower_precision
from setmatch.deploy.verification.verify import NamedImage, Verification, images_to_verify, verify
from setmatch.deploy.verification.verify_ends import verify_ends
from setmatch.deploy.web.export import export_site
from setmatch.errors import ConfigError
from setmatch.files.writing import atomic_files, require_file
from setmatch.models.detector import Detector, require_weights

FORMATS: tuple[ExportFormat, ...] = (ONNX, OPENVINO, TORCH)


@checked_except("model")
def export(
    model: Detector,
    path: str | Path,
    *,
    to: str | None = None,
    size_px: tuple[int, int] | None = None,
    end_to_end: bool = False,
    verify_on: str | Path | None = None,
    runtime: str | Path | None = None,
    precision: Precision = "float",
    data: str | Path | None = None,
    tolerance: float = 1.0,
) -> Verification:
    """Write a detector as a file of another format, and return how it compares with the model.

    The file is run beside the model in PyTorch on several images, image sizes and batch sizes. Each
    detection must be found again within 0.001 pixels and a score of 0.0001; otherwise there is no
    file. `setmatch.load` opens it; its metadata has the classes, the image size, the license and
    the SHA-256 of the weights.

    Parameters
    ----------
    model
        A detection transformer. It is not changed.
    path
        The file to write. Its ending says the format: .onnx, or .xml for OpenVINO, which gets a
        .bin file of the same name beside it, or .pt2 for a package of compiled code. For "web", a
        folder.
    to
        The format, "onnx", "openvino" or "torch", if the ending must not choose it; or "web", a
        folder with a page that runs the model in a browser.
    size_px
        (height, width) of the network's input: every image is resized to it, whatever its own
        sides. By default the file takes any size, and images are resized as the model's card says.
    end_to_end
        Write a graph that takes one uint8 image (H, W, 3) of any size and a score threshold, and
        returns boxes in its pixels, class indices, scores and, from a mask head, masks. Otherwise
        it takes a batch of preprocessed images and returns logits and boxes as fractions.
    verify_on
        A folder, file or pattern of images to compare on. The default are generated scenes.
    runtime
        For "web", a folder of the npm package onnxruntime-web, whose files are copied beside the
        page. By default, the page loads them from a content delivery network.
    precision
        "half" stores weights in float16. "int8" stores them in int8, and computes convolutions in
        it. The file is first verified in float32.
    data
        For lower precision, a data set: "int8" is calibrated on its training images, and AP is
        measured on its validation images.
    tolerance
        How many points of AP lower precision may cost.

    Raises
    ------
    VerificationError
        Detections of the file differ from those of the model; the message names the image, and the
        part of the graph that differs first. Or lower precision costs more than `tolerance`.
    ConfigError
        The model cannot be exported, a size is out of range, or the file cannot be written.
    DataError
        An image of `verify_on` cannot be read.
    ExtraMissingError
        The libraries of the extra `onnx` or `openvino` are not installed.
    """
    path = Path(path)
    require_weights(model, "export")
    require_size(size_px)
    categories = model.card.categories
    if to == "web":
        if end_to_end:
            raise ConfigError("end_to_end: a page takes whole images anyway; leave it out")
        lower = lower_precision(precision, ONNX.precisions, data, tolerance, categories)
        return export_site(
            model, path, size_px=size_px, verify_on=verify_on, runtime=runtime, lower=lower
        )
    if runtime is not None:
        raise ConfigError(f"runtime {runtime}: is for a page; add the format web")
    kind = _format_of(path, to)
    lower = lower_precision(precision, kind.precisions, data, tolerance, categories)
    for each in (path, *(path.with_suffix(suffix) for suffix in kind.others)):
        require_file(each)
        if each != path and each.exists() and not path.exists():
            raise ConfigError(f"{each}: would be replaced, but is not of {path.name}; name another")
    kind.require_libraries()
    images = images_to_verify(verify_on)
    return write_verified(kind, model, path, images, size_px, end_to_end, lower)


def write_verified(
    kind: ExportFormat,
    model: Detector,
    path: Path,
    images: Sequence[NamedImage],
    size_px: tuple[int, int] | None = None,
    end_to_end: bool = False,
    lower: LowerPrecision | None = None,
) -> Verification:
    """Write a detector in a format, verify it on images, and then give it its name.

    Raises VerificationError and ConfigError as `export` does.
    """
    others = [path.with_suffix(suffix) for suffix in kind.others]
    model = single_on_cpu(model)
    graph = kind.build(model, size_px, end_to_end)
    with atomic_files(path, *others) as temporary:
        graph.save(temporary)
        engine = kind.open(temporary)
        preprocessing = engine.card.preprocessing
        checks = verify(model, engine.predict, preprocessing, images, graph.first_difference)
        if end_to_end:
            checks += verify_ends(model, kind.open_ends(temporary), preprocessing, images)
        loss = lower.rewrite(temporary, kind.precisions[lower.name], kind.open) if lower else None
    return Verification(tuple(checks), (path, *others), loss)


def _format_of(path: Path, name: str | None) -> ExportFormat:
    """Return the format of that name, or of the ending of the path."""
    suffix = path.suffix.lower()
    named = [each for each in FORMATS if name in (None, each.name)]
    if not named:
        raise ConfigError(
            f"format {name}: choose one of {', '.join(each.name for each in FORMATS)}, web"
        )
    for each in named:
        if each.suffix == suffix:
            return each
    raise ConfigError(
        f"{path}: name a file that ends in {' or '.join(each.suffix for each in named)}"
    )
