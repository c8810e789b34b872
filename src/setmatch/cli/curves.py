"""`setmatch curves`: plot the losses and metrics of training runs."""

from pathlib import Path
from typing import Annotated

from setmatch.cli.options import Required


def curves(*runs: Annotated[Path, Required], out: Path = Path("curves.html")) -> None:
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
    from setmatch.training.logging.curves.plot import plot_curves

    for history in plot_curves(runs, out):
        print(history.summary())
        for step, warning in history.remarks:
            print(f"  warning at step {step:,}: {warning}")
    print(f"written to {out}")
