"""`setmatch queries`: what each object query is used for."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from setmatch.cli.options import BatchSize, Data, Device, Format, Model, Split, Workers
from setmatch.files import require_folder


def queries(
    model: Model,
    data: Data,
    /,
    *,
    out: Path,
    split: Split = "val",
    query: Annotated[tuple[int, ...], Parameter(negative="")] = (),
    threshold: float = 0.5,
    batch_size: BatchSize = 4,
    workers: Workers = "auto",
    device: Device = "auto",
    format: Format = None,
) -> None:
    """Show what the query slots of a model are for, over all images of a data set.

    Parameters
    ----------
    out
        Folder for queries.png (every box of a query as a dot) and queries.json (their use).
    query
        Show this query. May be repeated; without, the picture shows the twenty that answer most.
    threshold
        A query is used where it scores more.
    """
    from setmatch.data.open import open_dataset
    from setmatch.distributed import init_distributed
    from setmatch.explanation.query_usage import save_query_statistics, study_queries
    from setmatch.models.load import load

    require_folder(out)
    with init_distributed(device) as runtime:
        study = study_queries(
            load(model).to(runtime.device),
            open_dataset(data, split, format),
            threshold=threshold,
            batch_size=batch_size,
            workers=workers,
            progress=True,
        )
    paths = save_query_statistics(study, out, query)
    uses = study.uses
    dead = sum(not use.answers for use in uses)
    special = sum(bool(use.specializes) for use in uses)
    print(
        f"{len(uses)} queries, {len(study.score)} images: {dead} never answer above "
        f"{threshold:.0%}, {special} specialize"
    )
    for path in paths:
        print(path)
