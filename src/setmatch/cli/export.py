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
    """Write a trained model for other programs, and verify it before it is called done.

    For example:

        setmatch export runs/first --out detector.onnx
        setmatch export runs/first --out detector.onnx --end-to-end --verify my_data/
        setmatch export runs/first --to openvino --out detector.xml
        setmatch export runs/first --to web --out site/ --verify my_data/

    The file is run beside the model on several images, image sizes and batch sizes. Every
    detection must be found again within 0.001 pixels; otherwise no file is left. It is then a model
    like any other: setmatch predict detector.onnx street.jpg --out results.

    Parameters
    ----------
    to
        Format to write: onnx, which ends in .onnx; openvino, .xml with a .bin file beside it; or
        torch, .pt2 with code compiled for this machine, which takes minutes. Defaults to what the
        file ends in. Or web: a folder with a page that runs the model in a
        browser.
    out
        File to write, such as detector.onnx or detector.xml, or the folder of a page.
    size
        Height and width of the network's input, as 480x640: every image is resized to it. Or
        dynamic: images keep their aspect ratio, and are resized as in training.
    end_to_end
        Take one image (height, width, 3) in uint8, and return boxes in its pixels, classes, scores
        and masks, for programs without setmatch.
    verify
        Images to verify on: a file, folder or pattern. The default are generated images. A page
        shows the first one.
    runtime
        For web: a folder of the npm package onnxruntime-web, to copy the runtime from. By default
        the page loads it from a content delivery network.
    half
        Store weights in float16: half the size, the same speed. For onnx, openvino and web.
    int8
        Store weights in int8, a quarter of the size, and compute convolutions in int8, which is
        faster on processors. For onnx, openvino (which needs the extra nncf) and web.
    data
        For --half and --int8: a data set. Its training images calibrate int8, and its validation
        images measure AP before and after.
    tolerance
        For --half and --int8: how many points of AP they may cost.
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
    found = sum(each.difference.found for each in verification.checks)
    size_mb = sum(each.stat().st_size for each in verification.files) / 1e6
    files = str(out) if to == "web" else " and ".join(map(str, verification.files))
    print(
        f"written to {files} ({size_mb:.1f} MB): it finds all {found} detections of {model}, with "
        "differences up to those above"
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
    found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if found is None:
        raise ConfigError(f"--size {text}: give height and width, as in 480x640, or dynamic")
    return int(found[1]), int(found[2])
