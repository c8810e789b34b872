"""The verbs that look into a model; the package says how verbs are written."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from setmatch.cli.options import Device, Model
from setmatch.errors import ConfigError
from setmatch.files import require_file, require_folder


def explain(
    image: Path,
    /,
    *,
    model: Model,
    out: Path | None = None,
    png: Path | None = None,
    point: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    threshold: float = 0.5,
    device: Device = "auto",
) -> None:
    """Show why a model answers as it does for a picture: what it looked at, on a page to click on.

    Parameters
    ----------
    image
        Picture to answer for.
    out
        HTML page to write; it needs no network.
    png
        Folder for plain pictures: attention of the decoder and the encoder, boxes by layer.
    point
        Point whose encoder attention encoder.png shows, as in --point 320,200 (pixels of the
        picture). May be repeated; without, it shows the middles of the best answers.
    threshold
        Show what scores more; the page can change it.
    """
    from setmatch.distributed import init_distributed
    from setmatch.explanation.explain import explain
    from setmatch.models.load import load

    if out is None and png is None:
        raise ConfigError("nothing to write: give --out why.html, --png DIR, or both")
    if point and png is None:
        raise ConfigError("--point says what a plain picture shows: give --png DIR too")
    points = [_point(text) for text in point]
    if out is not None:
        require_file(out)
    if png is not None:
        require_folder(png)
    with init_distributed(device) as runtime:
        explanation = explain(load(model).to(runtime.device), image, threshold=threshold)
    if png is not None:
        for path in explanation.save_figures(png, points):
            print(path)
    if out is not None:
        explanation.save(out)
        print(out)


def _point(text: str) -> tuple[float, float]:
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"--point {text}: not a point; write it as in --point 320,200") from None
    return x, y
