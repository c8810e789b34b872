"""What an earlier run left in a folder of results, and what becomes of it."""

from collections.abc import Collection
from pathlib import Path


def earlier_results(
    out: Path, names: Collection[str], folder: str, suffixes: Collection[str]
) -> set[Path]:
    """Return the results in `out`, relative to it.

    They have one of the `names`, or lie in `folder` and have one of the `suffixes`.
    """
    found = [out / name for name in names if (out / name).is_file()]
    found += [
        path
        for path in (out / folder).rglob("*")
        if path.suffix.lower() in suffixes and path.is_file()
    ]
    return {path.relative_to(out) for path in found}


def replaced_line(earlier: set[Path], written: set[Path], names: Collection[str]) -> str:
    """Return what became of the results of an earlier run, as a sentence.

    It is empty if there were none of these `names`.
    """
    if not earlier & {Path(name) for name in names}:
        return ""
    remaining = sorted(path.as_posix() for path in earlier - written)
    if not remaining:
        return "replaced the results of an earlier run"
    first, more = ", ".join(remaining[:3]), len(remaining) - 3
    shown = f"{first} and {more} more" if more > 0 else first
    return f"replaced the results of an earlier run, of which there still are {shown}"
