"""`setmatch export`: write a model as a file for other programs, and verify it."""

import re
from pathlib import Path
from typing import Literal

from setmatch.cli.options import Model, Switch
from setmatch.errors import ConfigError


def export(
    model: Model,
    /,
    *,
    to: Literal["onnx", "openvino", "torch", "web"] | None = None,
    out: Path,
    size: str = "dynamic",
    end_to_end: Switch = False,
    verify: str | None = None,
    runtime: Path | None = None,
    half: Switch = False,
    int8: Switch = False,
    data: str | None = None,
    tolerance: float = 1.0,
) -> None:
    """Export a trained model to ONNX, OpenVINO, compiled code or a web page, and verify it.

    For example:

        setmatch export runs/first --out detector.onnx
        setmatch export runs/first --out detector.onnx --end-to-end --verify my_data/
        setmatch export runs/first --to openvino --out detector.xml
        setmatch export runs/first --to web --out site/ --verify my_data/

    The exported file and the model are run on the same images, in several image sizes and batch
    sizes. Their detections must agree within 0.001 pixels; otherwise no file is written. The file
    can be used like any other model: setmatch predict detector.onnx street.jpg --out results.

    Parameters
    ----------
    to
        Format to write: onnx (.onnx), openvino (.xml, with a .bin file beside it), torch (.pt2,
        code compiled for this machine, which takes minutes) or web (a folder with a page that runs
        the model in a browser). Defaults to the format that the ending of --out names.
    out
        File to write, such as detector.onnx or detector.xml. For web: a folder.
    size
        Height and width of the network's input, as in 480x640 (640 is 640x640); every image
        is resized to it. With dynamic, images keep their aspect ratio and are resized as in
        training.
    end_to_end
        For programs without setmatch: the file takes one image as uint8 (height, width, 3), and
        returns boxes in pixels of that image, classes, scores and masks.
    verify
        Images to verify on: a file, folder or glob pattern. Defaults to generated images. A web
        page shows the first one.
    runtime
        For web: folder of the npm package onnxruntime-web, to copy the runtime from. By default the
        page loads it from a content delivery network.
    half
        Store weights in float16: half the size, the same speed. For onnx, openvino and web.
    int8
        Store weights in int8, a quarter of the size, and compute convolutions in int8, which is
        faster on CPUs. For onnx, openvino (which needs the extra nncf) and web.
    data
        For --half and --int8: data set. Its training images calibrate int8, and AP is measured on
        its validation images before and after.
    tolerance
        For --half and --int8: maximum loss of AP, in points.
    """
    from rich.console import Console

    from setmatch.deploy.export import export
    from setmatch.models.load import load

    size_px = size_px_of(size)
    verification = export(
        load(model),
        out,
        to=to,
        size_px=size_px,
        end_to_end=end_to_end,
        verify_on=verify,
        runtime=runtime,
        precision=_precision(half, int8),
        data=data,
        tolerance=tolerance,
    )
    Console().print(verification.table())
    compared = sum(each.difference.compared for each in verification.checks)
    size_mb = sum(each.stat().st_size for each in verification.files) / 1e6
    files = str(out) if to == "web" else " and ".join(map(str, verification.files))
    print(
        f"written to {files} ({size_mb:.1f} MB): its {compared} detections agree with those of "
        f"{model}, up to the differences above"
    )
    if verification.loss is not None:
        loss = verification.loss
        print(f"lower precision: AP {loss.after:.2f} instead of {loss.before:.2f} on {data}")
    if to == "web" and runtime is None:
        print(f"open it in a browser: {out / 'index.html'}")
    elif to == "web":
        print(f"serve it, and open it in a browser: python -m http.server --directory {out}")


def _precision(half: bool, int8: bool) -> Literal["float", "half", "int8"]:
    if half and int8:
        raise ConfigError("--half --int8: choose one of them")
    return "half" if half else "int8" if int8 else "float"


def size_px_of(text: str) -> tuple[int, int] | None:
    """Return the (height, width) that --size names; None for dynamic."""
    if text == "dynamic":
        return None
    found = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", text)
    if found is None:
        raise ConfigError(f"--size {text}: give height and width, as in 480x640, or dynamic")
    return int(found[1]), int(found[2] or found[1])
