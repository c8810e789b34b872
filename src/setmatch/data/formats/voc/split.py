"""Which XML files of a Pascal VOC data set belong to a split."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from setmatch.data.formats.layout import files_in, folders_below
from setmatch.data.formats.written_paths import written_parts
from setmatch.data.images.image_paths import SUFFIXES
from setmatch.data.splits import split_of_list
from setmatch.errors import DataError
from setmatch.files.reading import read_text

TRAINVAL = "trainval"


@dataclass(frozen=True)
class VocSplit:
    """Where a split's XML files and images are, and which of the XML files belong to it."""

    annotations: Path
    images: tuple[Path, ...]  # folders, the most likely first
    names: Path | None = None  # a list of images, or the folder of these; None: all belong to it

    def files(self) -> list[Path]:
        """Return the XML files of this split; raises DataError where one that is listed lacks."""
        xml_files = files_by_stem(self.annotations)
        if self.names is None:
            return [self.annotations / name for name in xml_files.values()]
        wanted = dict.fromkeys(_listed(self.names, xml_files))
        missing = [stem for stem in wanted if stem not in xml_files]
        if missing:
            raise DataError(
                f"{self.names}: {len(missing)} of its {len(wanted)} names have no XML file in "
                f"{self.annotations}: {', '.join(missing[:3])}; add the files or remove the names"
            )
        return [self.annotations / xml_files[stem] for stem in wanted]


def xml_files(folder: Path) -> list[str]:
    """Return the XML files of a folder, but for models of OpenVINO, which lie beside a .bin."""
    names = files_in(folder, [".xml", ".bin"])
    weights = {Path(name).stem for name in names if name.lower().endswith(".bin")}
    return [
        name for name in names if name.lower().endswith(".xml") and Path(name).stem not in weights
    ]


def files_by_stem(annotations: Path) -> dict[str, str]:
    """Return the XML files of a folder by their names without the suffix.

    Where it holds none itself, they are those in its folders, with these in their names: sub/a.
    """
    inside = xml_files(annotations)
    if not inside and annotations.is_dir():
        inside = [
            (place.relative_to(annotations) / name).as_posix()
            for place in folders_below(annotations, annotations)
            for name in xml_files(place)
        ]
    return {str(PurePosixPath(name).with_suffix("")): name for name in inside}


def listed_stems(names: Path, xml_files: Mapping[str, str]) -> set[str]:
    """Return the XML files that a list names, by their stems; nothing for any other text."""
    try:
        return {stem for stem in _listed(names, xml_files) if stem in xml_files}
    except DataError:
        return set()


def _listed(names: Path, xml_files: Mapping[str, str]) -> Iterable[str]:
    """Yield the stems of the XML files in a list, or those with an image in a folder.

    A line may have a 1 or -1 behind its name. In a list of one class, such as cat_train.txt, that
    says which images show the class: all belong to the split.
    """
    stems = _Stems(xml_files)
    if names.is_dir():
        places = folders_below(names, names)
        listed = (
            stems.meant((place.relative_to(names) / name).as_posix())
            for place in places
            for name in files_in(place, SUFFIXES)
        )
        yield from filter(xml_files.__contains__, listed)
        return
    try:
        lines = read_text(names, "utf-8-sig").split("\n")
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{names}: cannot be read ({reason}); replace or remove it") from None
    except UnicodeDecodeError:
        raise DataError(f"{names}: not UTF-8 text; save it as UTF-8") from None
    is_of_class = split_of_list(names.stem) is None and names.stem != TRAINVAL
    for line in filter(None, map(str.strip, lines)):
        name, _, last = line.rpartition(" ")
        if line in xml_files or not name:
            yield stems.meant(line)
        elif last.lower().endswith(".xml"):  # an image and its XML file, as PaddlePaddle has them
            yield stems.meant(last)
        elif last not in ("-1", "0", "1"):
            yield stems.meant(line)
        elif last != "-1" or is_of_class:
            yield stems.meant(name.strip())


class _Stems:
    """The stems of XML files, to be found by names of images and of XML files."""

    def __init__(self, xml_files: Mapping[str, str]) -> None:
        self._files = xml_files
        bases = Counter(stem.rpartition("/")[2] for stem in xml_files)
        nested = (stem for stem in xml_files if "/" in stem)
        self._by_base = {
            base: stem for stem in nested if bases[base := stem.rpartition("/")[2]] == 1
        }

    def meant(self, name: str) -> str:
        """Return which stem a name means, with folders and a suffix or not; itself if none."""
        if name in self._files:
            return name
        parts = written_parts(name)
        tails = ["/".join(parts[first:]) for first in range(len(parts))]
        for tail in tails:
            for each in (tail, _without_suffix(tail)):
                if each in self._files:
                    return each
        base = tails[-1] if tails else name
        return self._by_base.get(_without_suffix(base), self._by_base.get(base, name))


def _without_suffix(name: str) -> str:
    return name.rpartition(".")[0] if name.lower().endswith((*SUFFIXES, ".xml")) else name
