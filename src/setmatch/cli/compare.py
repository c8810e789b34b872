"""The verbs that set models beside one another; the package says how verbs are written."""

from pathlib import Path

from setmatch.cli.data import DataFormat


def compare(
    *models: str,
    data: str | None = None,
    split: str = "val",
    json: Path | None = None,
    html: Path | None = None,
    rounds: int = 10,
    batch_size: int = 4,
    short_side_px: int = 800,
    workers: int = 2,
    device: str = "auto",
    format: DataFormat | None = None,
) -> None:
    """Set models side by side: parameters, GFLOPs, latency, memory, average precision.

    Parameters
    ----------
    models
        Run folders, files, published names or hub ids; presets, which get random weights and are
        only timed (always so as random:NAME); COCO results (JSON), of which only AP is told.
    data
        Folder of a data set or an annotation file; without it there is no AP.
    split
        Which part of the data set.
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
    workers
        Processes that read images.
    device
        "auto", "cpu", "cuda" or "cuda:1".
    format
        What the annotations are, where they could be several.
    """
    from rich.console import Console

    from setmatch.errors import ConfigError
    from setmatch.evaluate.compare import compare
    from setmatch.evaluate.compare.page import write_page
    from setmatch.train.runtime import processes

    with processes(device) as runtime:
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
