"""`setmatch curves`: plot the losses and metrics of training runs."""

from pathlib import Path

from setmatch.errors import ConfigError
from setmatch.files import require_file


def curves(*runs: Path, out: Path = Path("curves.html")) -> None:
    """Plot the losses and the AP of one or more training runs.

    For example:

        setmatch curves runs/first runs/second --out curves.html

    Runs that are still in progress can be plotted too.

    Parameters
    ----------
    runs
        Run folders.
    out
        HTML page (.html) or image (.png) to write.
    """
    from setmatch.training.logging.curves.history import read_histories
    from setmatch.training.logging.curves.html import write_page
    from setmatch.training.logging.curves.png import write_png

    writers = {".html": write_page, ".png": write_png}
    if out.suffix.lower() not in writers:
        raise ConfigError(f"--out {out}: write an HTML page (.html) or an image (.png)")
    require_file(out)
    histories = read_histories(runs)
    writers[out.suffix.lower()](histories, out)
    for history in histories:
        print(history.summary())
        for step, warning in history.remarks:
            print(f"  warning at step {step:,}: {warning}")
    print(f"written to {out}")
