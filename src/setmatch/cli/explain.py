"""`setmatch explain`: show why a model detects what it does in an image."""

from pathlib import Path
from typing import Annotated

from setmatch.cli.options import Device, Model, Repeatable, Threshold


def explain(
    model: Model,
    image: Path,
    /,
    *,
    out: Path | None = None,
    png: Path | None = None,
    point: Annotated[tuple[str, ...], Repeatable] = (),
    threshold: Threshold = None,
    device: Device = "auto",
) -> None:
    """Show what a model looks at when it detects the objects of an image.

    For example:

        setmatch explain detr_r50 street.jpg --out why.html
        setmatch explain detr_r50 street.jpg --png figures --point 320,200

    The page and the figures show the attention of the object query behind each detection, layer by
    layer. Give --out, --png, or both. The page can change the threshold.

    Parameters
    ----------
    image
        Image file.
    out
        Write an interactive HTML page to this file. It works offline.
    png
        Write figures to this folder: decoder and encoder attention, boxes after each layer.
    point
        Point whose encoder attention encoder.png shows, in pixels of the image, for example
        --point 320,200. Repeatable. Defaults to the centers of the best detections.
    """
    from setmatch.distributed import init_distributed
    from setmatch.explanation.explain import explain
    from setmatch.explanation.outputs import ExplanationFiles
    from setmatch.models.load import load

    files = ExplanationFiles.parse(out, png, point)
    files.require_writable()
    with init_distributed(device) as runtime:
        explanation = explain(load(model).to(runtime.device), image, threshold=threshold)
    print(*files.write(explanation), sep="\n")
