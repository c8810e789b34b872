"""How much memory this process uses, as the system counts it."""

import sys
from pathlib import Path

from setmatch.files.reading import read_text

PROC = Path("/proc")


def resident_bytes(proc: Path = PROC) -> int | None:
    """Return the memory that this process uses now; None where it is not known."""
    return _status("VmRSS", proc)


def peak_bytes(proc: Path = PROC) -> int:
    """Return the most memory that this process has used at a time."""
    # getrusage may count the process that started this one, so it is the second choice.
    return _status("VmHWM", proc) or _peak_of_usage()


def _peak_of_usage() -> int:
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else 1024 * used


def _status(name: str, proc: Path) -> int | None:
    try:
        lines = read_text(proc / "self" / "status").splitlines()
    except OSError:
        return None
    kilobytes = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return 1024 * int(kilobytes[0]) if kilobytes else None
