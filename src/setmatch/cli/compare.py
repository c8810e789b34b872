"""The verbs that set models beside one another; the package says how verbs are written."""

from pathlib import Path

from setmatch.cli.options import Device, Format, Split, Workers
from setmatch.files import require_file


def compare(
    *models: str,
    data: str | None = None,
    split: Split = "val",
    json: Path | None = None,
    html: Path | None = None,
    rounds: int = 10,
    batch_size: int = 4,
    short_side_px: int = 800,
    workers: Workers = "auto",
    device: Device = "auto",
    format: Format = None,
) -> None:
    """Set models side by side: parameters, GMACs, latency, memory, average precision.

    Parameters
    ----------
    models
        Run folders, files, published names or hub ids; presets, which get random weights and are
        only timed (always so as random:NAME); COCO results (JSON), of which only AP is told.
    data
        Folder of a data set or an annotation file; without it there is no AP.
    json
        Write the numbers to this file.
    html
        Write a page to this file.
    rounds
        How often each model is timed, in turns with the others.
    batch_size
        Pictures at once for images/s; latency is that of one.
    short_side_px
        How large models with random weights see pictures; the others know.
    """
    from rich.console import Console

    from setmatch.distributed import init_distributed
    from setmatch.errors import ConfigError
    from setmatch.evaluation.compare.compare import compare
    from setmatch.evaluation.compare.html import write_page

    for path in (json, html):
        if path is not None:
            require_file(path)
    with init_distributed(device) as runtime:
        if runtime.world > 1:
            raise ConfigError("compare times models one after the other: start it as one process")
        found = compare(
            models,
            data,
            split=split,
            format=format,
            rounds=rounds,
            batch_size=batch_size,
            workers=workers,
            short_side_px=short_side_px,
            device=runtime.device,
            progress=True,
        )
    Console().print(found.table())
    if json is not None:
        found.write_json(json)
    if html is not None:
        write_page(found, html)
