"""Images that were all converted to another format after they were annotated: found by their stems.

Only where no image has the name that is written, and only in a folder where the images should be:
a single missing photograph must not become the mask beside it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from setmatch.data.dataset import AnnotationFix
from setmatch.data.formats.layout import files_in, stays_inside
from setmatch.data.formats.locate_images import LocatedImages, SearchArea, locate_images
from setmatch.data.formats.written_paths import fold, written_parts
from setmatch.data.images.image_paths import SUFFIXES

OTHER_SUFFIX = "image name with another suffix: found by its stem"


def locate_photographs(written: Sequence[str], area: SearchArea) -> LocatedImages:
    """Return the file of each image, as `locate_images` does; if none is there, by their stems.

    One of the usual folders must then have a single file for each, and for each another.
    """
    located = locate_images([(name,) for name in written], area)
    if not written or any(located.names) or located.unclear or located.contested:
        return located
    by_stem = cache(_by_stem)  # each folder is listed once
    for folder in area.usual:
        names = [_converted(name, folder, area.root, by_stem) for name in written]
        found = [name for name in names if name is not None]
        if len(set(found)) == len(written):
            value = f"{len(found)} images, the first {written[0][:80]!r}: {found[0]}"
            fix = AnnotationFix.of_many(value, OTHER_SUFFIX)
            return replace(located, root=folder, names=[*found], fixes=(fix,), advice="")
    return located


def _converted(
    written: str, folder: Path, root: Path, by_stem: Callable[[Path], Mapping[str, list[str]]]
) -> str | None:
    """Return the only image below a folder that has a written path up to the suffix, or its end."""
    parts = written_parts(written)
    for first in range(len(parts)):
        *above, name = parts[first:]
        place = folder.joinpath(*above)
        if stays_inside(root, place / name):
            files = by_stem(place).get(fold(_stem(name)), [])
            if len(files) == 1:
                return "/".join([*above, files[0]])
    return None


def _by_stem(folder: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in files_in(folder, SUFFIXES):
        found.setdefault(fold(_stem(name)), []).append(name)
    return found


def _stem(name: str) -> str:
    return name.rpartition(".")[0] if name.lower().endswith(SUFFIXES) else name
