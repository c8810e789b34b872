"""The verbs that are about runs of training; the package says how verbs are written."""

from pathlib import Path

from setmatch.errors import ConfigError
from setmatch.files import require_file


def curves(*runs: Path, out: Path = Path("curves.html")) -> None:
    """Draw the losses and the AP of one or several runs.

    Parameters
    ----------
    runs
        Folders of runs.
    out
        The page (.html) or picture (.png) to write.
    """
    from setmatch.training.logging.curves.history import read_histories
    from setmatch.training.logging.curves.html import write_page
    from setmatch.training.logging.curves.png import write_png

    writers = {".html": write_page, ".png": write_png}
    if out.suffix.lower() not in writers:
        raise ConfigError(f"--out {out}: can be a page (.html) or a picture (.png)")
    require_file(out)
    histories = read_histories(runs)
    writers[out.suffix.lower()](histories, out)
    for history in histories:
        print(history.summary())
        for step, says in history.remarks:
            print(f"  watch, step {step:,}: {says}")
    print(f"written to {out}")
