"""The last part of a demo: a page that runs the trained model in the reader's own browser."""

import logging
from pathlib import Path

from setmatch.deploy.export import export
from setmatch.errors import ExtraMissingError, SetmatchError
from setmatch.models.detector import Detector

log = logging.getLogger("setmatch")

FOLDER = "browser"  # of a demo
IMAGES = "data/images/val_*.jpg"
BY_HAND = f"setmatch export run --to web --out {FOLDER} --verify '{IMAGES}'"


def write_browser_page(model: Detector, out: Path) -> bool:
    """Write the page into a folder of the demo; return False if it cannot be written.

    The reason is logged as a warning: a demo ends with its other pages all the same.
    """
    try:
        export(model, out / FOLDER, to="web", verify_on=out / IMAGES)
    except ExtraMissingError:
        log.warning(
            "no page for the browser: install what it needs with pip install 'setmatch[onnx]', and "
            "run in %s: %s",
            out,
            BY_HAND,
        )
        return False
    except SetmatchError as error:
        log.warning("no page for the browser: %s", error)
        return False
    return True
