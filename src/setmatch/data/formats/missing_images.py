"""Images that are annotated and not there, or of which nobody knows the size or the segments.

They are left out by name where they are few. Many of them mean that the folder is the wrong one, or
was copied in part, which no training should begin with.
"""

from collections.abc import Sequence

from setmatch.data.dataset import AnnotationFix
from setmatch.errors import DataError

MISSING = "image file missing: left out"
UNREADABLE = "image file that cannot be read: left out"
UNDRAWN = "image whose segments' PNG file is missing: left out"
_SAID = {
    MISSING: "image files are missing",
    UNREADABLE: "image files are unreadable",
    UNDRAWN: "PNG files of segments are missing",
}
_ONE_IN = 20


def drop_missing(
    place: object, absent: Sequence[AnnotationFix], images: int, fixes: list[AnnotationFix]
) -> None:
    """Note which of `images` annotated images are left out: at most one in 20, and not all.

    Raises DataError that counts them, names three and says what to do, where they are more.
    """
    if len(absent) > min(-(-images // _ONE_IN), images - 1):
        files = ", ".join(map(_named, absent[:3])) + ", ..." * (len(absent) > 3)
        kinds = dict.fromkeys(fix.done for fix in absent)
        said = _SAID[next(iter(kinds))] if len(kinds) == 1 else "image files are unusable"
        raise DataError(
            f"{place}: {len(absent)} of {images} {said}: {files}; complete the "
            "folder, name the right one, or take them out of the annotations"
        )
    fixes += absent


def _named(fix: AnnotationFix) -> str:
    return fix.value if fix.value == fix.file else f"{fix.value} of {fix.file}"


def note_of(fixes: Sequence[AnnotationFix], images: int) -> tuple[str, ...]:
    """Say in a sentence how many images were left out beside the `images` that are there."""
    absent = sum(fix.done in _SAID for fix in fixes)
    if not absent:
        return ()
    are = "is" if absent == 1 else "are"
    return (
        f"{absent} of {images + absent} images {are} left out: the file is missing or cannot be "
        "read; `setmatch audit` names them",
    )
