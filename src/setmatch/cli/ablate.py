"""`setmatch ablate`: train each variant of an ablation study."""

from pathlib import Path
from typing import Annotated

from setmatch.cli.options import Boxes, Device, Format, Required, Settings, Switch


def ablate(
    *studies: Annotated[str, Required],
    out: Path,
    data: str | None = None,
    recipe: str | None = None,
    set_: Settings = (),
    epochs: int | None = None,
    seeds: int = 1,
    scenes: int = 4000,
    report_only: Switch = False,
    device: Device = "auto",
    format: Format = None,
    boxes: Boxes = None,
) -> None:
    """Repeat the ablation studies of the DETR paper, on your data or on generated images.

    For example:

        setmatch ablate encoder losses --out ablation --seeds 3

    Each variant changes one part of a model, such as the number of encoder layers. Run the same
    command again to resume. With torchrun, several variants are trained at the same time.

    Parameters
    ----------
    studies
        Studies to run: encoder, decoder, position, losses, ffn, auxiliary, no_object, or all.
    out
        Folder for the runs, ablation.json and a plot for each study.
    data
        Data set: a folder, a YOLO data.yaml, or a COCO JSON file. Without it, simple images are
        generated.
    recipe
        Training recipe of all variants: a YAML file, or the name of a recipe that comes with
        setmatch. Defaults to ablation.
    epochs
        Train each variant for this many epochs. Defaults to what the recipe says.
    seeds
        Runs of each variant. Differences smaller than the spread between runs mean nothing.
    scenes
        Number of training images to generate.
    report_only
        Train nothing; show the results so far.
    """
    from rich.console import Console

    from setmatch.ablation.run import ablate

    length = () if epochs is None else (f"train.epochs={epochs}",)
    run = ablate(
        studies,
        out=out,
        data=data,
        recipe=recipe,
        overrides=(*set_, *length),
        seeds=seeds,
        scenes=scenes,
        device=device,
        format=format,
        boxes=boxes,
        report_only=report_only,
    )
    for table in run.tables():
        Console().print(table.to_rich())
    print(f"written to {run.out}")
