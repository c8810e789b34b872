"""Find the image files of annotations, in the same way for all formats.

A name is first taken as written, inside the usual folders. Otherwise every folder of the data set
is searched for the files that share the most of the name's last parts. Nothing outside the data
set's folder is ever opened: a path that leads out is looked for inside.
"""

import os
import shlex
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from unicodedata import normalize

from setmatch.data.dataset import AnnotationFix
from setmatch.data.formats.layout import (
    as_written,
    entries,
    files_in,
    folders_below,
    is_image_folder,
    missing_files,
    stays_inside,
)
from setmatch.data.formats.missing_images import CONTESTED, MISSING, UNCLEAR
from setmatch.data.formats.same_names import choose_folder
from setmatch.data.formats.unread_formats import PACKED
from setmatch.data.formats.uploaded_names import is_uploaded, uploaded_name
from setmatch.data.formats.written_paths import (
    PathIndex,
    TailMatch,
    fold,
    is_plain,
    spellings,
    written_parts,
)
from setmatch.data.images.image_paths import SUFFIXES
from setmatch.data.splits import canonical, split_in

BY_STEM = "image name without a suffix: found by its stem"
UPLOADED = "image name as Label Studio changes it, or the file's own: found without the prefix"


@dataclass(frozen=True)
class SearchArea:
    """The folders that may have the images of an annotation file: `usual` first, then `root`.

    `here` is the annotation file's folder. Images in folders that are named after another split
    than `split` are not taken, unless the annotations name that folder. `searched` are the folders
    that are searched to the bottom; by default, the root.
    """

    root: Path
    usual: tuple[Path, ...]
    here: Path
    split: str | None = None
    searched: tuple[Path, ...] = ()


@dataclass(frozen=True)
class LocatedImages:
    """The files of written names, relative to `root`; None where there is none.

    `unclear` are the positions of names that may mean several files, `contested` of those that mean
    the same file as others, and `advice` says what to do. `notes` tell which folders were taken.
    """

    root: Path
    names: list[str | None]
    fixes: tuple[AnnotationFix, ...] = ()
    notes: tuple[str, ...] = ()
    unclear: frozenset[int] = frozenset()
    contested: frozenset[int] = frozenset()
    advice: str = ""

    def why_absent(self, position: int) -> str:
        """Return the description of the fix that leaves out an image without a file."""
        if position in self.contested:
            return CONTESTED
        return UNCLEAR if position in self.unclear else MISSING


def locate_images(written: Sequence[Sequence[str]], area: SearchArea) -> LocatedImages:
    """Return the file of each image. `written` are the names that each may have, likeliest first.

    Opens no file, unless several may be meant and must be compared.
    """
    first = [names[0] for names in written]
    if all(map(is_plain, first)):
        inner = {name.rpartition("/")[0] for name in first}
        for folder in area.usual:
            inside = all(stays_inside(area.root, folder / each / "any") for each in inner)
            if inside and not missing_files(folder, first):
                return LocatedImages(folder, list(first))
    return _Search(area, written).result()


@dataclass(frozen=True)
class _Choice:
    """The files that one written name may mean, and for each its folder.

    The last `parts` parts of the name are a file's path from its folder.
    """

    written: str
    parts: int
    by_stem: bool
    files: dict[str, int]  # by folder, below the root

    def only(self, folder: str) -> "_Choice":
        return _Choice(self.written, self.parts, self.by_stem, {folder: self.files[folder]})


@dataclass
class _Search:
    """One search for all names of an annotation file that the usual folders do not explain."""

    area: SearchArea
    written: Sequence[Sequence[str]]
    found: dict[int, _Choice] = field(default_factory=dict)  # of a single file each, by name
    unclear: set[int] = field(default_factory=set)
    contested: set[int] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    advice: str = ""
    of_other_split: dict[str, bool] = field(default_factory=dict)  # of folders with such files

    def result(self) -> LocatedImages:
        for alternative in range(max(map(len, self.written), default=0)):
            self._find(alternative)
            self._drop_contested()
        paths = [self._path(choice) for choice in self.found.values()]
        others = sorted(folder for folder, is_other in self.of_other_split.items() if is_other)
        if others and not paths and not self.advice:
            self.advice = (
                f"files of these names are in {' and '.join(map(self._shown, others[:3]))}, for "
                f"another split than {self.area.split!r}: {self._command(others)}, if they are "
                "meant"
            )
        if not paths and not self.advice:
            self.advice = self._packed()
        # Text, because a hundred thousand objects of pathlib take seconds.
        common = os.path.commonpath({path.rpartition("/")[0] for path in paths}) if paths else ""
        if paths:
            root = self.area.root / common
        else:
            root = next((each for each in self.area.usual if each.is_dir()), self.area.root)
        names: list[str | None] = [None] * len(self.written)
        for position, path in zip(self.found, paths, strict=True):
            names[position] = path[len(common) + 1 if common else 0 :]
        return LocatedImages(
            root,
            names,
            tuple(self._fixes()),
            tuple(self.notes),
            frozenset(self.unclear - self.found.keys()),
            frozenset(self.contested - self.found.keys()),
            self.advice,
        )

    @cached_property
    def _index(self) -> PathIndex:
        return PathIndex(list(dict.fromkeys(self._files())))

    @cached_property
    def _usual(self) -> list[str]:
        """The usual folders, relative to the root; "" is the root itself."""
        root, usual = self.area.root, self.area.usual
        inside = [each.relative_to(root).as_posix() for each in usual if each.is_relative_to(root)]
        return ["" if each == "." else each for each in inside]

    def _path(self, choice: _Choice) -> str:
        (file,) = choice.files.values()
        return self._index.paths[file]

    def _files(self) -> Iterator[str]:
        """Yield the files that a name may mean, relative to the root."""
        texts = {text for names in self.written for name in names for text in spellings(name)}
        last = {parts[-1] for text in texts if (parts := written_parts(text))}
        wanted = set(map(fold, last))
        stems = {fold(name) for name in last if not name.lower().endswith(SUFFIXES)}
        uploads = {fold(uploaded_name(_without_suffix(name))) for name in last}
        for start in self.area.searched or (self.area.root,):
            for folder in folders_below(start, self.area.root):
                inside = folder.relative_to(self.area.root).as_posix()
                for name, is_folder in entries(folder):
                    folded = fold(name)
                    meant = not is_folder and (
                        folded in wanted
                        or (stem := _stem(folded)) in stems
                        or uploaded_name(stem) in uploads
                    )
                    if meant and os.path.isfile(os.path.join(folder, name)):
                        yield name if inside == "." else f"{inside}/{name}"

    def _find(self, alternative: int) -> None:
        """Find the images without a file, by the names that are their alternative number so."""
        choices = {
            position: choice
            for position, names in enumerate(self.written)
            if position not in self.found and alternative < len(names)
            if (choice := self._choice(names[alternative])).files
        }
        explained: dict[str, set[int]] = defaultdict(set)
        for position, choice in choices.items():
            for folder in choice.files:
                explained[folder].add(position)
        shared: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for position, choice in choices.items():
            if len(choice.files) == 1:
                self.found[position] = choice
            else:
                shared[tuple(choice.files)].append(position)
        for folders, positions in shared.items():
            files = [
                [self.area.root / self._index.paths[file] for file in choices[each].files.values()]
                for each in positions
            ]
            chosen = choose_folder(folders, explained, self._rank, files)
            if chosen is None:
                self.unclear.update(positions)
                self._advise(folders)
                continue
            self.found |= {position: choices[position].only(chosen) for position in positions}
            others = [
                f"{self._shown(each)} ({len(explained[each])})"
                for each in folders
                if each != chosen
            ]
            self.notes.append(
                f"images are read from {self._shown(chosen)} ({len(explained[chosen])} of "
                f"{len(self.written)}); files of the same names are in {', '.join(others)}"
            )

    def _choice(self, written: str) -> _Choice:
        match = self._match(written)
        by_folder: dict[str, list[int]] = defaultdict(list)
        for file in match.files:
            folder = "/".join(self._index.paths[file].split("/")[: -match.parts])
            if folder not in self.of_other_split:
                self.of_other_split[folder] = self._is_of_other_split(folder)
            if not self.of_other_split[folder]:
                by_folder[folder].append(file)
        # If files of one folder differ in case alone, none has the exact name.
        files = {
            folder: inside[0]
            for folder, inside in by_folder.items()
            if len(inside) == 1 or match.by_stem
        }
        return _Choice(written, match.parts, match.by_stem, files)

    def _match(self, written: str) -> TailMatch:
        if ".." in written:
            parts = as_written(self.area.root, self.area.here, written)
            exact = [] if parts is None else self._index.exact("/".join(parts))
            if parts and exact:
                return TailMatch(exact, len(parts))
        return self._index.match(written)

    def _is_of_other_split(self, folder: str) -> bool:
        split = self.area.split and canonical(self.area.split)
        if not split or folder in self._usual:
            return False
        return any(split_in(part) not in (None, split) for part in folder.split("/"))

    def _rank(self, folder: str) -> int:
        """Return how unusual a folder of images is."""
        if folder in self._usual:
            return self._usual.index(folder)
        known = bool(folder) and all(map(is_image_folder, folder.split("/")))
        return len(self._usual) + (0 if known else 1)

    def _shown(self, folder: str) -> str:
        return f"{folder}/" if folder else f"{self.area.root}/"

    def _advise(self, folders: tuple[str, ...]) -> None:
        self.advice = (
            f"{' and '.join(map(self._shown, folders[:3]))} have different files of the same "
            f"names: move the wrong folder away, or {self._command(folders)}"
        )

    def _command(self, folders: Sequence[str]) -> str:
        """Return advice to choose one of the folders."""
        root = self.area.root
        command = (
            f"setmatch convert-data {shlex.quote(str(root))} {shlex.quote(f'{root}_chosen')} "
            "--to coco --images"
        )
        first, *others = (shlex.quote(str(root / folder)) for folder in folders[:3])
        same = f", or the same with {' or '.join(others)}" if others else ""
        return f"choose with `{command} {first}`{same}"

    def _drop_contested(self) -> None:
        """Take no file for several names, unless only one of them is written exactly so."""
        claims: dict[str, list[int]] = defaultdict(list)
        for position, choice in self.found.items():
            claims[self._path(choice)].append(position)
        for contested in (positions for positions in claims.values() if len(positions) > 1):
            claimants: dict[tuple[str, ...], list[int]] = defaultdict(list)
            for position in contested:
                claimants[written_parts(self.found[position].written)].append(position)
            exact = [
                name for name, each in claimants.items() if not self._ways(self.found[each[0]])
            ]
            for name, positions in claimants.items():
                if len(claimants) > 1 and [name] != exact:
                    for position in positions:
                        del self.found[position]
                    self.contested.update(positions)
                    self.advice = self.advice or (
                        "restore the files that are lost, or give all boxes of a file to the name "
                        "that it has"
                    )

    def _packed(self) -> str:
        """Return advice to unpack the files that may hold the images; "" where there are none."""
        places = dict.fromkeys((self.area.root, self.area.here, *self.area.usual))
        packed = [str(place / name) for place in places for name in files_in(place, PACKED)]
        return f"unpack {', '.join(packed[:3])}, where the images may be" if packed else ""

    def _ways(self, choice: _Choice) -> list[str]:
        """Return how a file was found, other than by its exact name at a usual place."""
        path, parts, ways = self._path(choice), written_parts(choice.written), []
        tail = "/".join(parts[-choice.parts :])
        if _is_renamed(path, tail):
            return [UPLOADED]
        if choice.by_stem:
            ways.append(BY_STEM)
            path = str(PurePosixPath(path).with_suffix(""))
        if not f"/{path}".endswith(f"/{tail}"):
            ways.append(f"image name in {_difference(path, tail)}: file found")
        if choice.parts < len(parts) or not is_plain(choice.written.replace("\\", "/")):
            ways.append("image path of another place: found by its last parts")
        elif "\\" in choice.written:
            ways.append("image path with backslashes: read as slashes")
        (folder,) = choice.files
        if folder not in self._usual:
            ways.append("image not at a usual place: found by its name")
        return ways

    def _fixes(self) -> Iterator[AnnotationFix]:
        """Yield one fix for each way in which files were found, with its count and an example."""
        by_way: dict[str, list[int]] = defaultdict(list)
        for position, choice in sorted(self.found.items()):
            for way in self._ways(choice):
                by_way[way].append(position)
        for way, positions in by_way.items():
            example = self.found[positions[0]]
            value = (
                f"{len(positions)} of {len(self.written)} images, the first "
                f"{example.written[:80]!r}: {self._path(example)}"
            )
            yield AnnotationFix.of_many(value, way)


def _is_renamed(path: str, tail: str) -> bool:
    """Return whether a file has what is written only if an upload has changed one of both."""
    file, name = (PurePosixPath(each).name for each in (path, tail))
    stems = PurePosixPath(file).stem, _without_suffix(name)
    one, other = map(is_uploaded, stems)
    return one != other and fold(stems[0]) != fold(stems[1])


def _difference(path: str, tail: str) -> str:
    """Return in what the end of a path differs from what was written."""
    here, there = normalize("NFC", path), normalize("NFC", tail)
    if f"/{here}".endswith(f"/{there}"):
        return "another Unicode normal form"
    if f"/{here.casefold()}".endswith(f"/{there.casefold()}"):
        return "other capitals"
    return "another spelling of blanks or signs"


def _without_suffix(name: str) -> str:
    return name.rpartition(".")[0] if name.lower().endswith(SUFFIXES) else name


def _stem(name: str) -> str:
    return name.rpartition(".")[0] if name.endswith(SUFFIXES) else ""
