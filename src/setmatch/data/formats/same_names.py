"""Decide which folder's files are meant where several folders have files of the same names."""

import filecmp
from collections.abc import Callable, Mapping, Sequence, Set
from pathlib import Path

_LEFTOVER = 2  # a folder with this many times more of the names makes the other a leftover
_MAX_COMPARED_BYTES = 1 << 28  # of files that may be equal


def choose_folder(
    folders: Sequence[str],
    explained: Mapping[str, Set[int]],
    rank: Callable[[str], int],
    files: Sequence[Sequence[Path]],
) -> str | None:
    """Return the folder that is meant, or None where that is not clear.

    `explained` holds the names that each folder has a file of. A folder wins over another if it
    has all of the other's names, and at least twice as many or a better `rank` (the smaller, the
    better: how usual a place is). Otherwise the files of each name, one per folder, must be equal.
    Else they may be previews, with boxes drawn on them.
    """

    def beats(one: str, other: str) -> bool:
        if not explained[one] >= explained[other]:
            return False
        leftover = len(explained[one]) >= _LEFTOVER * len(explained[other])
        return leftover or rank(one) < rank(other)

    ranked = sorted(folders, key=lambda folder: (rank(folder), -len(explained[folder])))
    for folder in ranked:
        if all(beats(folder, other) for other in ranked if other != folder):
            return folder
    return ranked[0] if _all_equal(files) else None


def _all_equal(groups: Sequence[Sequence[Path]]) -> bool:
    """Return whether the files of each group have the same bytes, as far as 256 MB tell."""
    compared = 0
    for first, *others in groups:
        try:
            size = first.stat().st_size
            if any(other.stat().st_size != size for other in others):
                return False
            compared += size
            if compared <= _MAX_COMPARED_BYTES and not all(
                filecmp.cmp(first, other, shallow=False) for other in others
            ):
                return False
        except OSError:
            return False
    return True
