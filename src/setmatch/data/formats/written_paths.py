r"""Match paths that were written on another machine with files that are here.

D:\images\a.png, ../images/a.png and https://host/images/a.png may all mean images/a.png. The more
of its last parts a path shares with a file, the likelier it means that file.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from urllib.parse import parse_qs, unquote, unquote_plus, urlsplit

from setmatch.data.formats.uploaded_names import is_uploaded, uploaded_name
from setmatch.data.images.image_paths import SUFFIXES

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_DRIVE = re.compile(r"[A-Za-z]:")
_MOST_PARTS = 256  # more than any file system has; all tails of more would be tried for minutes
_FORBIDDEN = re.compile(r'[<>:"|?*]')  # in the names of files, on Windows
_SUSPICIOUS = re.compile(r"[/\\:\0]|\.\.")


def fold(name: str) -> str:
    """Return a name as file systems compare it that ignore case and Unicode normal form."""
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def is_plain(name: str) -> bool:
    """Return whether a name is a path inside a folder, with slashes, as it stands."""
    if name.count("/") >= _MOST_PARTS:
        return False
    if not _SUSPICIOUS.search(name):
        return True
    parts = name.split("/")
    return not (
        "\\" in name or "\0" in name or ".." in parts or "" in parts or _DRIVE.match(parts[0])
    )


def written_parts(written: str) -> tuple[str, ...]:
    """Return the folders and the file that a path names, whichever machine wrote it.

    Both kinds of slashes divide. Hosts, drives, "." and ".." are dropped, and so is what a URL has
    behind its path, unless it names the file, as Label Studio's ?d=images/a.png does. Of very many
    parts, only the last count.
    """
    text = written
    if "?d=" in text or ("://" in text and _URL.match(text)):
        try:
            url = urlsplit(text)
            inner = parse_qs(url.query).get("d")
        except ValueError:  # such as brackets that are not a host
            pass
        else:
            text = inner[0] if inner else unquote(url.path)
    parts = text.replace("\\", "/").rsplit("/", _MOST_PARTS)
    if len(parts) > _MOST_PARTS:
        parts = parts[1:]
    if _DRIVE.match(parts[0]):
        parts[0] = parts[0][2:]
    return tuple(part for part in parts if part not in ("", ".", "..") and not _is_drive(part))


def _is_drive(part: str) -> bool:
    return len(part) == 2 and bool(_DRIVE.match(part))


@dataclass(frozen=True)
class TailMatch:
    """The files that a written path may mean: those that share the most of its last parts.

    `files` are positions in the index, `parts` how many parts they share. `by_stem` is True if the
    written path has no suffix and matched without one.
    """

    files: Sequence[int] = ()
    parts: int = 0
    by_stem: bool = False


class PathIndex:
    """Paths, to be found by their last parts, in any case and Unicode normal form."""

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = paths

    @cached_property
    def _by_tail(self) -> dict[str, list[int]]:
        return _tails(self.paths)

    @cached_property
    def _by_uploaded_name(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for position, path in enumerate(self.paths):
            found.setdefault(fold(uploaded_name(PurePosixPath(path).stem)), []).append(position)
        return found

    @cached_property
    def _by_stem_tail(self) -> dict[str, list[int]]:
        return _tails([str(PurePosixPath(path).with_suffix("")) for path in self.paths])

    def exact(self, path: str) -> list[int]:
        """Return the position of exactly this path, if it is listed."""
        return [file for file in self._by_tail.get(fold(path), ()) if self.paths[file] == path]

    def match(self, written: str) -> TailMatch:
        """Return the files that a path may mean; of equal ones, those spelled most like it."""
        for text in spellings(written):
            parts = written_parts(text)
            for first in range(len(parts)):
                tail = parts[first:]
                files = self._by_tail.get(fold("/".join(tail)))
                if files is not None:
                    return TailMatch(self._most_alike(files, tail), len(tail))
        parts = written_parts(written)
        if parts and not parts[-1].lower().endswith(SUFFIXES):
            for first in range(len(parts)):
                files = self._by_stem_tail.get(fold("/".join(parts[first:])))
                if files is not None:
                    likeliest = sorted(files, key=lambda file: _suffix_rank(self.paths[file]))
                    return TailMatch(likeliest, len(parts) - first, by_stem=True)
        return self._match_uploaded(parts[-1]) if parts else TailMatch()

    def _match_uploaded(self, name: str) -> TailMatch:
        """Return the files that have a name if one of both is as an upload has changed it."""
        by_stem = not name.lower().endswith(SUFFIXES)
        stem, suffix = (name, None) if by_stem else (PurePosixPath(name).stem, _suffix(name))
        files = [
            file
            for file in self._by_uploaded_name.get(fold(uploaded_name(stem)), ())
            if is_uploaded(stem) != is_uploaded(PurePosixPath(self.paths[file]).stem)
            if suffix in (None, _suffix(self.paths[file]))
        ]
        return TailMatch(files, 1, by_stem)

    def _most_alike(self, files: Sequence[int], tail: tuple[str, ...]) -> Sequence[int]:
        """Return the files that have the most parts letter by letter."""
        if len(files) == 1:
            return files
        equal = [
            sum(map(str.__eq__, reversed(self.paths[file].split("/")), reversed(tail)))
            for file in files
        ]
        return [file for file, count in zip(files, equal, strict=True) if count == max(equal)]


def spellings(written: str) -> tuple[str, ...]:
    """Return a name as written, and as it may be called after a way through other systems.

    Without percent encoding or blanks at its ends; with "_" or "-" for signs that Windows
    forbids; and with letters that unpacking read in another encoding than they were written in.
    """
    others = [unquote(written), written.strip()]
    if "+" in written:
        others.append(unquote_plus(written))
    if _FORBIDDEN.search(written):
        others += [_FORBIDDEN.sub(sign, written) for sign in "_-"]
    if not written.isascii():
        others += _garbled(written)
    return tuple(dict.fromkeys((written, *others)))


def _garbled(written: str) -> Iterator[str]:
    """Yield a name as archives garble it, and what it was if it is garbled itself."""
    # As Info-ZIP writes what a terminal cannot show.
    yield "".join(each if each.isascii() else f"#U{ord(each):04x}" for each in written)
    for encoding in ("cp437", "cp850", "cp1252", "latin-1"):
        for source, target in (("utf-8", encoding), (encoding, "utf-8")):
            with suppress(UnicodeError):
                yield written.encode(source).decode(target)


def _suffix(path: str) -> str:
    return PurePosixPath(path).suffix.lower()


def _suffix_rank(path: str) -> int:
    # A photograph is rather a JPEG than the PNG of a mask beside it.
    suffix = _suffix(path)
    return SUFFIXES.index(suffix) if suffix in SUFFIXES else len(SUFFIXES)


def _tails(paths: Iterable[str]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for position, path in enumerate(paths):
        folded = fold(path)
        start = 0
        while start >= 0:
            found.setdefault(folded[start:], []).append(position)
            slash = folded.find("/", start)
            start = slash + 1 if slash >= 0 else -1
    return found
