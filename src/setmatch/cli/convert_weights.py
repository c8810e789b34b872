"""`setmatch convert-weights`: convert weights to another layout."""

from pathlib import Path
from typing import Literal

from setmatch.cli.options import Model


def convert_weights(
    source: Model,
    destination: Path,
    /,
    *,
    to: Literal["setmatch", "setmatch-small", "original", "transformers"],
    preset: str | None = None,
) -> None:
    """Convert weights between setmatch, the code of a model's authors and transformers.

    For example:

        setmatch convert-weights runs/first detector.pth --to original
        setmatch convert-weights detr.pth detr/ --to setmatch --preset detr_r50

    Existing files are never overwritten.

    Parameters
    ----------
    destination
        File (original) or folder (setmatch, transformers) to write; it must be new.
    to
        Layout to write. setmatch-small stores 8-bit weights, which take a quarter of the space.
    preset
        Model of a .pth file that does not store its settings: a preset (see `setmatch models`), or
        a function of your own as package.module:factory.
    """
    from setmatch.models.load import convert_weights

    for note in convert_weights(source, destination, to, preset).notes:
        print(note)
