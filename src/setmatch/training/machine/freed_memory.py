"""Keep the memory that a step frees for the next one, instead of returning it to the system.

By default, glibc returns freed memory above some 64 MB. A training step on a CPU allocates and
frees more than that, and the system has to hand over, and clear, the same pages anew in each step:
some 10,000 page faults, a tenth of a small model's step.
"""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Parameters of mallopt (malloc.h), and their values in bytes.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
# What glibc's own rule arrives at once a block of 32 MB was freed: larger ones are always returned.
_LARGEST_KEPT, _KEPT_BY_DEFAULT = 1 << 25, 1 << 26
KEPT = 1 << 30  # at most this much freed memory is kept


@contextmanager
def keep_freed_memory() -> Iterator[None]:
    """Keep up to 1 GiB of freed memory in this process; return it to the system at the end.

    The peak of memory stays the same. Without glibc (macOS, Windows, musl) nothing is changed.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if not (hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim")):
        yield
        return
    assert libc is not None
    libc.mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT)
    libc.mallopt(_TRIM_THRESHOLD, KEPT)
    try:
        yield
    finally:
        libc.mallopt(_TRIM_THRESHOLD, _KEPT_BY_DEFAULT)
        libc.malloc_trim(0)
