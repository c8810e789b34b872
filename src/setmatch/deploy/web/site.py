"""Write the folder of a page that runs a model: index.html, and a copy of the runtime if wished."""

import base64
import dataclasses
import gzip
import importlib.metadata
import shutil
from pathlib import Path
from typing import Any

from setmatch.deploy.verification.compare_detections import LEAST_SCORE
from setmatch.deploy.web import runtime as web_runtime
from setmatch.deploy.web.known_image import KnownImage
from setmatch.deploy.web.network import page_outputs
from setmatch.deploy.web.runtime import FOLDER, Runtime
from setmatch.errors import ConfigError
from setmatch.files.reading import read_bytes
from setmatch.html.page import write
from setmatch.inference.engines.exported_card import ExportedCard
from setmatch.ops.colors import css_color_of
from setmatch.structures.metadata import Categories, Preprocessing

PAGE = "index.html"
# How far a browser may be off: its float32 arithmetic has another order of operations.
TOLERANCE_BOX_PX, TOLERANCE_SCORE = 0.1, 0.01
_MOST_CHARACTERS = 500_000_000  # of the model in the page; a browser's text can have few more
_MOST_NAMED = 6  # classes in the first sentence of the page


def require_site(folder: Path) -> None:
    """Raise ConfigError for a folder that has other files than those of a page."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ConfigError(f"{folder}: is a file; name a folder for the page")
    known = {PAGE: set(), FOLDER: web_runtime.names()}
    others = [each.name for each in folder.iterdir() if each.name not in known]
    if (folder / FOLDER).is_dir():
        others += [
            each.name for each in (folder / FOLDER).iterdir() if each.name not in known[FOLDER]
        ]
    if others:
        raise ConfigError(f"{folder}: has other files, such as {min(others)}; name a new folder")


def write_site(
    folder: Path, model: Path, exported: ExportedCard, known: KnownImage, runtime: Runtime
) -> None:
    """Write a page for the ONNX file `model` into an existing folder.

    Raises ConfigError for a model that is too large for a page.
    """
    content = read_bytes(model)
    text = base64.b64encode(gzip.compress(content, mtime=0)).decode()
    if len(text) > _MOST_CHARACTERS:
        raise ConfigError(
            f"a model of {len(content) / 1e6:.0f} MB is too large for a page: a browser can hold "
            f"{_MOST_CHARACTERS / 1e6:.0f} MB of text"
        )
    if runtime.copies:
        (folder / FOLDER).mkdir()
        for path in runtime.copies:
            shutil.copyfile(path, folder / FOLDER / path.name)
    card = exported.card
    write(
        folder / PAGE,
        "deploy/web/page.html",
        title=f"{card.preset} in the browser",
        subject=_subject(card.categories),
        card=card,
        facts=_facts(exported, known, runtime),
        least_percent=round(100 * LEAST_SCORE),
        model=text,
        model_mb=len(content) / 1e6,
        version=importlib.metadata.version("setmatch"),
    )


def _facts(exported: ExportedCard, known: KnownImage, runtime: Runtime) -> dict[str, Any]:
    """Return what the scripts of the page need, as JSON has it."""
    categories = exported.card.categories
    return {
        "classes": [
            {"name": categories.name(index), "color": css_color_of(index)}
            for index in range(len(categories))
        ],
        "threshold": max(exported.default_threshold, LEAST_SCORE),
        "leastScore": LEAST_SCORE,
        "hasMasks": exported.has_masks,
        "outputs": page_outputs(exported.has_masks),
        "preprocessing": _preprocessing(exported.card.preprocessing),
        "runtime": {
            engine: [dataclasses.asdict(each) for each in files]
            for engine, files in runtime.engines.items()
        },
        "check": _check(known),
    }


def _preprocessing(preprocessing: Preprocessing) -> dict[str, Any]:
    return {
        "size": preprocessing.size_px,
        "shortSide": preprocessing.short_side_px,
        "longSide": preprocessing.long_side_px,
        "mean": preprocessing.mean,
        "std": preprocessing.std,
    }


def _check(known: KnownImage) -> dict[str, Any]:
    known_rows = known.detections
    columns = (known_rows.class_indices, known_rows.scores, known_rows.xyxy_px)
    detections = [
        {"classIndex": index, "score": score, "box": box}
        for index, score, box in zip(*(each.tolist() for each in columns), strict=True)
    ]
    return {
        "image": known.uri,
        "threshold": known.threshold,
        "detections": detections,
        "tolerance": {"boxPx": TOLERANCE_BOX_PX, "score": TOLERANCE_SCORE},
    }


def _subject(categories: Categories) -> str:
    """Return what the model finds: the names of its classes, or how many there are."""
    names = [categories.name(index) for index in range(len(categories))]
    if len(names) > _MOST_NAMED:
        return f"objects of {len(names)} classes"
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
