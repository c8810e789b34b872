"""`plot_curves`: draw the curves of runs as a page or as an image, by the suffix of the file."""

from collections.abc import Sequence
from pathlib import Path

from setmatch.errors import ConfigError
from setmatch.files.writing import require_file
from setmatch.training.logging.curves.history import History, read_histories
from setmatch.training.logging.curves.html import write_page
from setmatch.training.logging.curves.png import write_png

_WRITERS = {".html": write_page, ".png": write_png}


def plot_curves(runs: Sequence[str | Path], out: str | Path) -> list[History]:
    """Write the losses and metrics of runs to `out`, and return what was read of each run.

    `out` is an HTML page (.html) or an image (.png, needs matplotlib). Raises ConfigError for
    another suffix, a file that cannot be written, no run, or a folder without a log, and
    ExtraMissingError without matplotlib.
    """
    path = Path(out)
    writer = _WRITERS.get(path.suffix.lower())
    if writer is None:
        raise ConfigError(f"{out}: write an HTML page (.html) or an image (.png)")
    require_file(path)
    histories = read_histories([Path(run) for run in runs])
    writer(histories, path)
    return histories
