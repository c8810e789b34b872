"""Read files that others wrote, and never wait for one: only regular files are opened.

A FIFO waits for a writer that may never come, and a device such as /dev/zero has no end. Either may
have the name of an image or of an annotation file.
"""

import codecs
import errno
import hashlib
import json
import os
import stat
from io import BufferedReader, TextIOWrapper
from pathlib import Path
from typing import Literal

_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}

_FLAGS = (
    getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)  # Windows would else change line ends
)

HashName = Literal["SHA-256", "MD5"]


def require_regular(path: str | Path) -> None:
    """Raise OSError unless `path` is a regular file or a link to one.

    For libraries that open a file by its name; `open_regular` is safer for everything else.
    """
    _check(os.stat(path).st_mode, path)


def open_regular(path: str | Path) -> BufferedReader:
    """Open a regular file for reading; raises OSError for anything else, without waiting."""
    require_regular(path)  # first, because opening a device may already have an effect
    # Without O_NONBLOCK, a FIFO that has taken the file's place since would wait for a writer.
    descriptor = os.open(path, os.O_RDONLY | _FLAGS)
    try:
        _check(os.fstat(descriptor).st_mode, path)
    except OSError:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


def read_bytes(path: str | Path) -> bytes:
    """Return the content of a regular file, as far as its size goes.

    Raises OSError for anything else, and where the content does not fit into the memory.
    """
    with open_regular(path) as file:
        try:
            return file.read(os.fstat(file.fileno()).st_size)
        except (MemoryError, OverflowError):
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM), str(path)) from None


def read_text(path: str | Path, encoding: str = "utf-8", errors: str = "strict") -> str:
    """Return the text of a regular file, with any kind of line end read as a line feed.

    A file that begins with the mark of UTF-16, as PowerShell writes it, is read so. Raises OSError
    as `read_bytes` does, and UnicodeDecodeError.
    """
    stream = open_regular(path)
    if stream.peek(2)[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        encoding = "utf-16"
    with TextIOWrapper(stream, encoding=encoding, errors=errors) as file:
        try:
            return file.read()
        except MemoryError:
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM), str(path)) from None


def read_json(path: str | Path) -> bytes:
    """Return the text of a JSON file as bytes of UTF-8, in whichever form of Unicode it is written.

    UTF-16 and UTF-32 are recognized without a mark, too. A text in neither is returned as it is.
    Raises OSError as `read_bytes` does.
    """
    content = read_bytes(path)
    encoding = json.detect_encoding(content[:4])
    if encoding == "utf-8":
        return content
    try:
        return content.decode(encoding).encode()
    except UnicodeDecodeError:
        return content


def sha256_of(path: str | Path) -> str:
    """Return the SHA-256 of a file as 64 hex digits; raise OSError as `read_bytes` does."""
    return hash_of(path, "SHA-256")


def hash_of(path: str | Path, name: HashName) -> str:
    """Return a hash of a file as hex digits; raise OSError as `read_bytes` does."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, name.replace("-", "").lower()).hexdigest()


def _check(mode: int, path: str | Path) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "of another kind")
        raise OSError(errno.EINVAL, f"is {kind}, not a regular file", str(path))
