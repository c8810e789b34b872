"""A validation split for a data set that has none, cut out by a fixed hash of the file names.

Whether an image is held out depends on its own name alone, so that adding images moves none.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool

SHARE = 6  # one image in so many is held out


def held_out(names: Sequence[str]) -> Bool[np.ndarray, " N"]:
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
