"""How much memory a process on Linux may use, and how much some work takes."""

import os
from collections.abc import Callable
from pathlib import Path

from setmatch.files.process_memory import PROC, peak_bytes, resident_bytes
from setmatch.files.reading import read_text

_CONTROL_GROUPS = Path("/sys/fs/cgroup")
_LIMITS = ("memory.max", "memory.limit_in_bytes")  # in versions 2 and 1 of control groups
_RESET_PEAK = "5"  # see proc(5)


def memory_limit(proc: Path = PROC, control_groups: Path = _CONTROL_GROUPS) -> int | None:
    """Return the bytes above which the system ends this process; None where it is not known.

    They are the memory of the machine, or the least limit of the control groups around the process,
    as of a container. What other processes use at present does not count, so that a run is the same
    whatever else runs. A limit of the address space (`ulimit -v`) does not count either: beyond it
    an allocation fails, and nothing is ended.
    """
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        lines = read_text(proc / "self" / "cgroup").splitlines()
    except (OSError, ValueError, AttributeError):
        return None
    return min([total, *(limit for line in lines for limit in _limits(line, control_groups))])


def _limits(line: str, control_groups: Path) -> list[int]:
    """Return the limits of a line of /proc/self/cgroup: of its group and of those around it."""
    _, controllers, path = line.split(":", 2)
    if controllers and "memory" not in controllers.split(","):
        return []
    root = control_groups / "memory" if controllers else control_groups
    inner = root / path.lstrip("/")
    # Inside a container, the path may be one that only the host has: then the root has the limit.
    folders = [inner, *(above for above in inner.parents if above.is_relative_to(root))]
    return [limit for folder in folders for name in _LIMITS if (limit := _read(folder / name))]


def _read(path: Path) -> int | None:
    try:
        text = read_text(path).strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None  # "max" is not a limit


def growth_during(work: Callable[[], None], proc: Path = PROC) -> int | None:
    """Do some work; return by how many bytes memory grew at most, None where it is not known."""
    before = resident_bytes(proc)
    try:
        with (proc / "self" / "clear_refs").open("w") as file:
            file.write(_RESET_PEAK)
    except OSError:
        before = None
    work()
    return None if before is None else max(peak_bytes(proc) - before, 0)
