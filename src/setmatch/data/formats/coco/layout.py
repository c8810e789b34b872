"""Where COCO's annotation files and the folders of their images lie in a data set."""

from pathlib import Path

from setmatch.data.formats.layout import ANNOTATION_FOLDERS, IMAGE_FOLDERS, folders_named
from setmatch.data.splits import split_in


def default_root(annotations: Path) -> Path:
    """Return the data set folder of an annotation file, which follows from its path."""
    here = annotations.parent
    return here.parent if here.name.lower() in ANNOTATION_FOLDERS else here


def image_folders(annotations: Path, root: Path) -> list[Path]:
    """Return the folders that usually hold the images of an annotation file, likeliest first.

    `root` is the folder of the data set. All are inside it; some may not exist.
    """
    here = annotations.parent
    names = [annotations.stem.removeprefix("instances_").removeprefix("panoptic_")]
    names += [here.name] if split_in(here.name) else []
    bases = dict.fromkeys([default_root(annotations), here, root])
    usual = []
    for base in bases:
        usual += [place / name for name in names for place in (base, base / "images")]
        usual += [base / "images", *folders_named(base, IMAGE_FOLDERS)]
    return [each for each in dict.fromkeys((*usual, *bases)) if each.is_relative_to(root)]
