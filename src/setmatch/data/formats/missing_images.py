"""Annotated images without a usable file, or with a damaged annotation file.

A few are left out, many are an error: the folder is the wrong one, was copied only in part, or is
of another format.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from setmatch.data.dataset import AnnotationFix
from setmatch.data.images.image_paths import is_undecoded
from setmatch.data.images.unreadable import UnreadableFile, undecoded
from setmatch.errors import DataError

MISSING = "image file missing: left out"
UNCLEAR = "image file in several folders, and the files differ: left out"
CONTESTED = "image name that means the file of another: left out"
UNREADABLE = "image file that cannot be read: left out"
OTHER_SHAPE = "image file of another shape than it is annotated with: left out"
UNDRAWN = "image whose segments' PNG file is missing: left out"
UNDECODED = "image file of a format that nothing here decodes: left out"
DAMAGED = "annotation file that cannot be read: its image is left out"
_PROBLEMS = {
    MISSING: "image files are missing",
    UNCLEAR: "image files lie in several folders and differ",
    CONTESTED: "image names mean the same file as others",
    UNREADABLE: "image files are unreadable",
    UNDECODED: "image files are of formats that nothing here decodes",
    OTHER_SHAPE: "image files have another shape than they are annotated with",
    UNDRAWN: "PNG files of segments are missing",
    DAMAGED: "annotation files cannot be read",
}
_ONE_IN = 20  # images may be left out


def drop_missing(
    place: object,
    absent: Sequence[AnnotationFix],
    images: int,
    fixes: list[AnnotationFix],
    advice: str = "",
) -> None:
    """Add the images that are left out, `absent`, to `fixes`.

    Raises DataError when they are more than one in 20 of all `images`, or all of them. The message
    counts them, names the first three, and ends with `advice`, if there is any better than the
    usual.
    """
    if len(absent) > _few(images):
        files = ", ".join(map(_file_of, absent[:3])) + ", ..." * (len(absent) > 3)
        kinds = dict.fromkeys(fix.description for fix in absent)
        problem = _PROBLEMS[next(iter(kinds))] if len(kinds) == 1 else "image files are unusable"
        usual = "add the files, name the right folder, or remove the images from the annotations"
        if all(is_undecoded(fix.value) for fix in absent):
            usual = "convert them to JPEG or PNG"
        raise DataError(f"{place}: {len(absent)} of {images} {problem}: {files}; {advice or usual}")
    fixes += absent


def drop_damaged(errors: Mapping[Path, DataError], images: int, fixes: list[AnnotationFix]) -> None:
    """Add the annotation files that cannot be read, each of one image, to `fixes`.

    Raises the first of the errors when they are more than one in 20 of all `images`, or all.
    """
    if len(errors) > _few(images):
        raise next(iter(errors.values()))
    for path, error in errors.items():
        value = str(error).removeprefix(f"{path}:").strip()
        fixes.append(AnnotationFix(path.name, None, value, DAMAGED))


def drop_undecoded(
    listed: Sequence[tuple[Path, Path]], fixes: list[AnnotationFix]
) -> tuple[list[tuple[Path, Path]], list[UnreadableFile]]:
    """Return the images with their label files, without images that nothing decodes or needs.

    Those lie beside a decoded image of the same name, as cameras store raw files, or have no label
    file. They are returned too, added to `fixes`, and do not count as missing.
    """
    decoded = {image.with_suffix("") for image, _ in listed if not is_undecoded(image.name)}
    kept, dropped = [], []
    for image, label in listed:
        needed = label.exists() and image.with_suffix("") not in decoded
        if needed or not is_undecoded(image.name):
            kept.append((image, label))
        else:
            fixes.append(AnnotationFix(image.name, None, image.name, UNDECODED))
            dropped.append(undecoded(image))
    return kept, dropped


def _few(images: int) -> int:
    return max(min(-(-images // _ONE_IN), images - 1), 0)


def _file_of(fix: AnnotationFix) -> str:
    return fix.value if fix.value == fix.file else f"{fix.value} of {fix.file}"


def missing_images_note(fixes: Sequence[AnnotationFix], images: int) -> tuple[str, ...]:
    """Return a sentence on how many images were left out; `images` counts those that are used."""
    absent = sum(fix.description in _PROBLEMS for fix in fixes)
    if not absent:
        return ()
    are = "is" if absent == 1 else "are"
    return (
        f"{absent} of {images + absent} images {are} left out: a file is missing or cannot be "
        "read; `setmatch audit` names them",
    )
