"""Whether tiles would help: are many objects specks, because large images are made small?"""

import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from setmatch.data.audit.findings import Finding
from setmatch.data.audit.recommend.image_size import SMALLEST, resized_object_px
from setmatch.data.batches.random_tile import SPECK_PX
from setmatch.data.dataset import DetectionDataset
from setmatch.ops.image_size import tile_side_px
from setmatch.structures.metadata import Preprocessing

LARGER = 1.5  # how much larger tiles must show an object to be worth their time
USE_TILES = ("--tiles", "auto")


def specks(dataset: DetectionDataset, preprocessing: Preprocessing) -> Bool[np.ndarray, " M"]:
    """Return which objects are smaller than 16 px after preprocessing, and larger in tiles.

    Tiles of the side "auto" show them half as large again, at least.
    """
    whole_px = resized_object_px(dataset, preprocessing)
    tiled_px = resized_object_px(dataset, preprocessing, "auto")
    return (whole_px < SPECK_PX) & (tiled_px >= LARGER * whole_px)


def needs_tiles(dataset: DetectionDataset, preprocessing: Preprocessing) -> bool:
    """Return whether a tenth of the objects are specks; never for panoptic data.

    Segments are those of whole images.
    """
    if dataset.panoptic is not None:
        return False
    found = specks(dataset, preprocessing)
    return bool(len(found)) and bool(found.mean() >= SMALLEST)


def check_tiles(
    split: str, dataset: DetectionDataset, preprocessing: Preprocessing, command: str
) -> Iterator[Finding]:
    """Yield a finding if the split needs tiles; `command` trains in them."""
    if not needs_tiles(dataset, preprocessing):
        return
    found = specks(dataset, preprocessing)
    whole_px = np.median(resized_object_px(dataset, preprocessing)[found])
    tiled_px = np.median(resized_object_px(dataset, preprocessing, "auto")[found])
    side_px = tile_side_px("auto", preprocessing)
    yield Finding(
        "note",
        "objects small for their image",
        f"learn from tiles ({command}), and evaluate and predict with {shlex.join(USE_TILES)}, too",
        split,
        value=f"{found.mean():.0%} of {len(found):,} objects; their median has {whole_px:.0f} px "
        f"when the whole image is resized, {tiled_px:.0f} px in tiles of {side_px} px",
    )


def train_command(data: str | Path, format: str | None, boxes: str | None) -> str:
    """Return the command that trains on the data in tiles."""
    words = ["setmatch", "train", str(data), *USE_TILES, "--out", "runs/tiles"]
    words += [] if format is None else ["--format", format]
    return shlex.join(words if boxes is None else [*words, "--boxes", boxes])
