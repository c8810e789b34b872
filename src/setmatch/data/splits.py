"""Split names, and which training images to hold out where there is no validation split."""

import hashlib
import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool

SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev", "eval", "evaluation"),
    "test": ("test", "testing"),
}
# In names of lists, beside a split. Ultralytics writes autosplit_train.txt, PaddleX train_list.txt.
_OF_LISTS = ("", "list", "lists", "autosplit", "image", "images", "img", "imgs", "file", "files")
_ONE_IN = 6  # images are held out


def canonical(word: str) -> str | None:
    """Return "train", "val" or "test" for any usual name of it, in any case; None for others."""
    return next((name for name, words in SPLITS.items() if word.lower() in words), None)


def split_in(name: str) -> str | None:
    """Return the only split whose usual names are among the words of a name; None for others.

    Words are divided by anything but letters, and by capitals: images_train, trainImages2017.
    """
    words = re.findall("[A-Z]?[a-z]+|[A-Z]+", name)
    splits = {split for word in words if (split := canonical(word))}
    return splits.pop() if len(splits) == 1 else None


def split_of_list(stem: str) -> str | None:
    """Return the split whose images a file of this name lists, as train and val_list do.

    Words for lists and images mean nothing. Other words do: cat_train is the list of a class.
    """
    words = [word for word in re.split("[^a-z]+", stem.lower()) if word not in _OF_LISTS]
    return canonical(words[0]) if len(words) == 1 else None


def words_for(split: str) -> tuple[str, ...]:
    """Return all usual names of a split, the given one first."""
    known = SPLITS.get(canonical(split) or split, ())
    return tuple(dict.fromkeys((split, *known)))


def holdout_mask(names: Sequence[str]) -> Bool[np.ndarray, " N"]:
    """Return which images to hold out for validation, by a hash of their file names.

    About one in six is held out; of two or more images, at least one. Folders do not count. Copies
    that Roboflow makes of one photograph share the name before ".rf." ("x.rf.1f2e.jpg"): they stay
    on one side, because a training copy of a validation image would leak it.
    """
    held_out = np.array(list(map(is_held_out, names)), dtype=bool)
    if held_out.all() or not held_out.any():
        # A handful of images can all fall on one side. A single image is for training.
        hashes = list(map(_hash, names))
        held_out = np.array([value == min(hashes) < max(hashes) for value in hashes], dtype=bool)
    return held_out


def is_held_out(name: str) -> bool:
    """Return whether an image of this file name is held out where there are many images."""
    return _hash(name) % _ONE_IN == 0


def _hash(name: str) -> int:
    name = name.rpartition("/")[2].split(".rf.")[0]
    return int.from_bytes(hashlib.sha256(name.encode(errors="surrogateescape")).digest()[:8], "big")
