"""Images that are annotated and not there, or of which nobody knows the size.

They are left out by name where they are few. Many of them mean that the folder is the wrong one, or
was copied in part, which no training should begin with.
"""

from collections.abc import Sequence

from setmatch.data.index import Repair
from setmatch.errors import DataError

MISSING = "image file missing: left out"
UNREADABLE = "image file that cannot be read: left out"
_ONE_IN = 20


def leave_out(place: object, absent: Sequence[Repair], images: int, repairs: list[Repair]) -> None:
    """Note which of `images` annotated images are left out: at most one in 20, and not all.

    Raises DataError that counts them, names three and says what to do, where they are more.
    """
    if len(absent) > min(-(-images // _ONE_IN), images - 1):
        files = ", ".join(map(_named, absent[:3])) + ", ..." * (len(absent) > 3)
        are = "missing" if all(repair.done == MISSING for repair in absent) else "unreadable"
        raise DataError(
            f"{place}: {len(absent)} of {images} image files are {are}: {files}; complete the "
            "folder, name the right one, or take them out of the annotations"
        )
    repairs += absent


def _named(repair: Repair) -> str:
    return repair.value if repair.value == repair.file else f"{repair.value} of {repair.file}"


def note_of(repairs: Sequence[Repair], images: int) -> tuple[str, ...]:
    """Say in a sentence how many images were left out beside the `images` that are there."""
    absent = sum(repair.done in (MISSING, UNREADABLE) for repair in repairs)
    if not absent:
        return ()
    are = "is" if absent == 1 else "are"
    return (
        f"{absent} of {images + absent} images {are} left out: the file is missing or cannot be "
        "read; `setmatch survey` names them",
    )
