"""`setmatch ablate`: train each variant of an ablation study."""

from pathlib import Path

from setmatch.cli.options import Device, Format, Settings, Switch


def ablate(
    *studies: str,
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
) -> None:
    """Repeat the paper's ablations: train each arm of a study, and set it beside the paper.

    A campaign that was killed goes on with the same command; torchrun spreads its runs.

    Parameters
    ----------
    studies
        encoder, decoder, position, losses, ffn, auxiliary, no_object, or all.
    out
        Folder of the campaign: runs, ablation.json and a plot for each study.
    data
        Folder of a data set; without it, small easy scenes are generated.
    recipe
        What all arms have in common: a YAML file, or the name of a recipe.
    epochs
        Train every arm for so many rounds through the images.
    seeds
        Runs of each arm; what differs by less than their spread says nothing.
    scenes
        Pictures to generate for training.
    report_only
        Train nothing: tell what has come out so far.
    """
    from rich.console import Console

    from setmatch.ablation.run import ablate
    from setmatch.ablation.studies import STUDIES

    length = () if epochs is None else (f"train.epochs={epochs}",)
    campaign = ablate(
        [*STUDIES] if studies == ("all",) else studies,
        out=out,
        data=data,
        recipe=recipe,
        overrides=(*set_, *length),
        seeds=seeds,
        scenes=scenes,
        device=device,
        format=format,
        report_only=report_only,
    )
    for table in campaign.tables():
        Console().print(table.to_rich())
    print(f"written to {campaign.out}")
