"""Images at addresses of other machines, such as s3://bucket/images; fsspec alone reaches them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from setmatch.data.images.image_paths import SUFFIXES
from setmatch.data.images.unreadable import UnreadableError, UnreadableFile
from setmatch.errors import (
    ConfigError,
    DataError,
    ExtraMissingError,
    SetmatchError,
    UnreachableError,
)

_SEPARATOR = "://"
_PATTERN = "*?["
# Classes of errors, of any library, that say nothing about the one image that was asked for.
_OUTAGES = {
    *("ConnectionError", "TimeoutError", "HTTPClientError", "ClientConnectionError"),
    *("NoCredentialsError", "CredentialRetrievalError", "TokenRetrievalError"),
}


def is_remote(source: str) -> bool:
    """Return whether a source is an address, not a path of this machine."""
    return _SEPARATOR in source


def list_remote(url: str) -> list[str]:
    """Return the addresses of the image files of a folder, a pattern or a file, sorted.

    Raises DataError if there are none or the place cannot be reached, and ExtraMissingError for an
    address that needs a library that is not installed.
    """
    with _reaching(url):
        files, path = _opened(url)
        if any(sign in path for sign in _PATTERN):
            found = files.glob(path)
        elif files.isdir(path):
            found = files.find(path)
        elif files.exists(path):
            return [url]
        else:
            raise FileNotFoundError
        # Nothing is asked about each of a million files: its name says whether it is an image.
        images = sorted(each for each in found if each.lower().endswith(SUFFIXES))
        addresses = [files.unstrip_protocol(each) for each in images]
    if not addresses:
        raise DataError(f"{url}: no image files; check the address")
    return addresses


def read_remote(url: str) -> bytes:
    """Return the content of a file.

    Raises UnreadableError; UnreachableError where no other file could be read either, so that an
    outage does not make unreadable images of all that follow; and ExtraMissingError as above.
    """
    try:
        with _reaching(url):
            files, path = _opened(url)
            content: bytes = files.cat_file(path)
            return content
    except (ConfigError, DataError) as error:  # among others, this one alone cannot be read
        cause = error.__cause__ or error
        advice = "check the address, and that it may be read"
        raise UnreadableError(UnreadableFile(url, _reason(cause), advice)) from cause


def _opened(url: str) -> tuple[Any, str]:
    try:
        import fsspec
    except ImportError:
        raise ExtraMissingError(
            f"{url}: an address needs fsspec: pip install 'setmatch[bulk]'"
        ) from None
    try:
        files, path = fsspec.core.url_to_fs(url)
    except ValueError as error:  # an unknown protocol
        scheme = url.partition(_SEPARATOR)[0]
        raise ConfigError(
            f"{url}: {scheme} is not a known kind of address ({error}); known are s3, gs, "
            "https and others of fsspec"
        ) from None
    return files, path


@contextmanager
def _reaching(url: str) -> Iterator[None]:
    """Turn whatever a library raises about an address into one of our errors, which names it."""
    try:
        yield
    except SetmatchError:
        raise
    except ImportError as error:
        raise ExtraMissingError(
            f"{url}: such addresses need another library ({_reason(error)}); pip install it"
        ) from None
    except Exception as error:
        if _OUTAGES & {kind.__name__ for kind in type(error).__mro__}:
            raise UnreachableError(
                f"{url}: cannot be reached ({_reason(error)}); results so far are kept: check "
                "network and access, and run the same again"
            ) from error
        raise DataError(
            f"{url}: cannot be read ({_reason(error)}); check the address, and that it may be read"
        ) from error


def _reason(error: BaseException) -> str:
    if isinstance(error, FileNotFoundError):  # whose text is the path alone in some libraries
        return "there is no such file or folder"
    named = isinstance(error, OSError) and error.strerror
    return " ".join(str(named or error).split()) or type(error).__name__
