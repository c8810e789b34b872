"""`setmatch queries`: show what each object query detects."""

from pathlib import Path
from typing import Annotated

from setmatch.cli.options import (
    BatchSize,
    Boxes,
    Data,
    Device,
    Format,
    Model,
    Repeatable,
    Split,
    Threshold,
    Workers,
)
from setmatch.files.writing import require_folder


def queries(
    model: Model,
    data: Data,
    /,
    *,
    out: Path,
    split: Split = "val",
    query: Annotated[tuple[int, ...], Repeatable] = (),
    threshold: Threshold = None,
    batch_size: BatchSize = 4,
    workers: Workers = "auto",
    device: Device = "auto",
    format: Format = None,
    boxes: Boxes = None,
) -> None:
    """Show what each object query detects, over all images of a data set.

    For example:

        setmatch queries detr_r50 coco/ --out queries

    A detection transformer predicts one box for each of its object queries, in every image. This
    shows which queries detect what, and which never detect anything. Only the images are used, not
    their annotations.

    Parameters
    ----------
    out
        Folder for queries.html (findings, and what they mean), queries.png (each box of a query
        as a dot) and queries.json (statistics).
    query
        Show this query, counted from 0. Repeatable. Defaults to the 20 that detect most.
    """
    from setmatch.data.open import open_dataset
    from setmatch.data.own_folder import require_own_folder
    from setmatch.distributed import init_distributed
    from setmatch.explanation.queries.usage import (
        require_queries,
        save_query_statistics,
        study_queries,
    )
    from setmatch.inference.engines.eager import as_engine
    from setmatch.inference.engines.load import load_on

    require_folder(out)
    require_own_folder(data, out)
    with init_distributed(device) as runtime:
        engine = as_engine(load_on(model, runtime.device))
        require_queries(engine)
        statistics = study_queries(
            engine,
            open_dataset(data, split, format, boxes),
            threshold=threshold,
            batch_size=batch_size,
            workers=workers,
            progress=True,
        )
    paths = save_query_statistics(statistics, out, query)
    print(statistics.summary(), *paths, sep="\n")
