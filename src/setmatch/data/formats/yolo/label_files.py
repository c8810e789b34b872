"""Which text file in a folder of labels is which image's."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePath

from setmatch.data.dataset import AnnotationFix
from setmatch.data.formats.layout import files_in
from setmatch.data.formats.uploaded_names import is_uploaded, uploaded_name
from setmatch.data.formats.written_paths import fold
from setmatch.data.images.image_paths import SUFFIXES


def labels_of(folder: Path, labels: Path, further: Iterable[str] = ()) -> dict[str, str]:
    """Return the names of the label files in `labels` by the images of `folder` that have one.

    `further` are images of the folder whose suffix does not tell that they are.
    """
    texts = files_in(labels, [".txt"])  # first, since most folders have none
    images = {*files_in(folder, SUFFIXES), *further} if texts else set()
    return label_files(sorted(images), texts)


def label_files(images: Sequence[str], texts: Sequence[str]) -> dict[str, str]:
    """Return the names of the label files of a folder by the images that have one.

    That is im.txt for im.jpg, or else im.jpg.txt, as some tools write it; or else the one of both
    that differs in case or Unicode normal form alone, as after a way through macOS or Windows; or
    else abcd1234-im.txt, or im.txt for abcd1234-im.jpg, as Label Studio changes names. What
    an earlier rule gives to an image, a later one gives to no other; where it finds several files
    or images, it gives none.
    """
    # Names with the same stem share a file; small letters sort last, so that a.txt beats a.TXT.
    by_stem = {_stem(text): text for text in texts}
    found = {image: by_stem[_stem(image)] for image in images if _stem(image) in by_stem}
    for name_of in (str, lambda image: fold(_stem(image)), fold):
        found |= _unique_matches(images, texts, found, name_of)
    return found | _uploaded(images, texts, found)


def _uploaded(
    images: Sequence[str], texts: Sequence[str], found: Mapping[str, str]
) -> dict[str, str]:
    """Return the files by the images without one, where an upload has changed one name of both."""

    def name_of(name: str) -> str:
        return fold(uploaded_name(_stem(name)))

    taken = set(found.values())
    free = [image for image in images if image not in found]
    of_name = Counter(map(name_of, free))
    by_name: dict[str, list[str]] = {}
    for text in texts:
        if text not in taken:
            by_name.setdefault(name_of(text), []).append(text)
    return {
        image: files[0]
        for image in free
        if len(files := by_name.get(name_of(image), [])) == of_name[name_of(image)] == 1
        if is_uploaded(image) != is_uploaded(files[0])
    }


def note_other_names(images: Sequence[Path], labels: Sequence[Path]) -> list[AnnotationFix]:
    """Return a fix for the label files that are not called as their images, if there are any."""
    others = [
        (image, label)
        for image, label in zip(images, labels, strict=True)
        if image.stem != label.stem
    ]
    if not others:
        return []
    image, label = others[0]
    value = f"{len(others)} of {len(images)} images, the first {image.name!r}: {label.name}"
    done = "label file named otherwise (suffix, capitals, Unicode form or prefix): found"
    return [AnnotationFix.of_many(value, done)]


def _stem(name: str) -> str:
    return PurePath(name).stem


def _unique_matches(
    images: Sequence[str],
    texts: Sequence[str],
    found: dict[str, str],
    name_of: Callable[[str], str],
) -> dict[str, str]:
    """Return the files by the images without one, where one file has the name of one image."""
    taken, is_exact = set(found.values()), name_of is str
    by_name: dict[str, tuple[list[str], list[str]]] = {}
    for image in images:
        if image not in found:
            by_name.setdefault(name_of(image), ([], []))[0].append(image)
    for text in texts:
        if text not in taken:
            name = _stem(text) if is_exact else fold(_stem(text))
            by_name.setdefault(name, ([], []))[1].append(text)
    return {
        named[0]: files[0] for named, files in by_name.values() if len(named) == len(files) == 1
    }
