"""What is in a folder, and the words by which folders and files name splits."""

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool

SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}


def canonical(word: str) -> str | None:
    """Return "train", "val" or "test" for any of the usual words for it; None for others."""
    return next((name for name, words in SPLITS.items() if word.lower() in words), None)


def words_for(split: str) -> tuple[str, ...]:
    """Return the usual words for a split, the given one first."""
    known = SPLITS.get(canonical(split) or split, ())
    return tuple(dict.fromkeys((split, *known)))


def split_folders(folder: Path) -> dict[str, Path]:
    """Return the folders inside one that are named like splits, by split."""
    found: dict[str, Path] = {}
    for path in subfolders(folder):
        name = canonical(path.name)
        if name is not None:
            found.setdefault(name, path)
    return found


def subfolders(folder: Path) -> list[Path]:
    """Return the folders inside one, sorted; none where it cannot be listed."""
    return [folder / name for name, is_folder in entries(folder) if is_folder]


def files_in(folder: Path, suffixes: Iterable[str]) -> list[str]:
    """Return the sorted names of the files in a folder that end in one of `suffixes`."""
    ends = tuple(suffixes)
    return [
        name
        for name, is_folder in entries(folder)
        if not is_folder and name.lower().endswith(ends) and not name.startswith(".")
    ]


def entries(folder: Path) -> list[tuple[str, bool]]:
    """Return the sorted names in a folder, and whether each is a folder; none if there is none."""
    try:
        with os.scandir(folder) as found:
            return sorted((entry.name, entry.is_dir()) for entry in found)
    except OSError:
        return []


SHARE = 6  # one image in so many is held out


def holdout_mask(names: Sequence[str]) -> Bool[np.ndarray, " N"]:
    """Return which images are held out: about one in six, and of two or more at least one.

    Folders do not count. Copies that Roboflow made of one photograph ("x.rf.1f2e.jpg") have the
    same name up to ".rf.", and stay together: a copy to learn from would give the answer away.
    """
    hashes = [_hash(name.rpartition("/")[2].split(".rf.")[0]) for name in names]
    out = np.array([value % SHARE == 0 for value in hashes], dtype=bool)
    if out.all() or not out.any():
        # So few images that all fell to one side; a single one is for training.
        out = np.array([value == min(hashes) < max(hashes) for value in hashes], dtype=bool)
    return out


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
