"""`setmatch convert_weights-weights`: write weights in another layout."""

from pathlib import Path
from typing import Literal

from setmatch.cli.options import (
    Model,
)


def convert_weights(
    source: Model,
    destination: Path,
    /,
    *,
    to: Literal["setmatch", "setmatch-small", "original", "transformers"],
    preset: str | None = None,
) -> None:
    """Translate weights between the published layouts and ours.

    Parameters
    ----------
    destination
        File (original) or folder (setmatch, transformers) to write.
    to
        The layout to write; setmatch-small spends one byte on a weight instead of four.
    preset
        Which model a .pth without its arguments holds.
    """
    from setmatch.models.load import convert_weights

    for note in convert_weights(source, destination, to, preset).notes:
        print(note)
