"""Download one file from its address: with a progress bar, and no byte twice after a break.

torch.hub and pooch start anew after a break. huggingface_hub resumes, from the hub alone.
"""

import sys
from http import HTTPStatus
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from filelock import FileLock
from rich.console import Console
from rich.progress import DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

from setmatch.files.reading import HashName, hash_of

CHUNK_BYTES = 1 << 20
TIMEOUT_S = 30  # without any byte
LOCKS = "locks"  # a folder beside the files: processes that want the same file wait for each other


def download(url: str, path: Path, digest: str, hash_name: HashName = "SHA-256") -> None:
    """Download `url` to `path`, unless it exists by the time that no other process downloads it.

    `digest` begins the hash of the file. What was received before a break stays in PATH.partial,
    and the next call asks for the rest alone, where the server allows. Raises OSError (URLError is
    one) if the address cannot be reached, the connection breaks, or the file is another one.
    """
    locks = path.parent / LOCKS
    locks.mkdir(parents=True, exist_ok=True)
    with FileLock(locks / f"{path.name}.lock"):
        if path.exists():
            return
        partial = partial_of(path)
        _receive(url, partial, path.name)
        received = hash_of(partial, hash_name)
        if not received.startswith(digest):
            partial.unlink()
            raise OSError(
                f"the {hash_name} of what was received starts with "
                f"{received[: len(digest)]}, that of the published file with {digest}; run this "
                "again to download it anew"
            )
        partial.replace(path)


def partial_of(path: Path) -> Path:
    """Return the file that holds the beginning of a download to `path`."""
    return path.with_name(f"{path.name}.partial")


def _receive(url: str, partial: Path, name: str) -> None:
    """Append to `partial` what is missing of it, or write all of it."""
    start = partial.stat().st_size if partial.exists() else 0
    headers = {"User-Agent": "setmatch"} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        response = urlopen(Request(url, headers=headers), timeout=TIMEOUT_S)  # noqa: S310
    except HTTPError as error:
        if start and error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # nothing is missing
        raise
    with response:
        if start and response.status != HTTPStatus.PARTIAL_CONTENT:
            start = 0  # the server sends all of it
        length = response.headers.get("Content-Length")
        total = None if length is None else start + int(length)
        columns = (
            *Progress.get_default_columns()[:2],
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        console = Console(stderr=True)
        with (
            partial.open("ab" if start else "wb") as file,
            Progress(*columns, console=console, disable=not sys.stderr.isatty()) as bar,
        ):
            task = bar.add_task(name, total=total, completed=start)
            while chunk := response.read(CHUNK_BYTES):
                file.write(chunk)
                bar.advance(task, len(chunk))
            received = file.tell()
    if total is not None and received < total:
        raise OSError(
            f"the connection ended after {received} of {total} bytes; run this again to continue"
        )
