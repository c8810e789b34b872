"""Downloading published weights, once and checked: files, hub repositories, torchvision's."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from setmatch.errors import WeightsError
from setmatch.files.reading import HashName, hash_of, sha256_of
from setmatch.files.writing import cache_folder
from setmatch.models.weights.downloads.hub import fetch_hub
from setmatch.models.weights.downloads.resumable_download import download


@dataclass(frozen=True)
class PublishedCheckpoint:
    """A published file, named NAME-DIGEST.EXT by the first hex digits of its SHA-256.

    `file` is its name here, where that of its address says too little; `md5` or `sha256` is its
    hash, where its name has none. `has_hash` is False if its authors publish none.
    """

    url: str
    license: str = "unknown"
    file: str | None = None
    md5: str | None = None
    sha256: str | None = None
    has_hash: bool = True

    @property
    def name(self) -> str:
        """The name of the file."""
        return self.file or self.url.rsplit("/", 1)[1]

    @property
    def digest(self) -> str:
        """The first hex digits of the file's hash, or all of them; empty without a hash."""
        if not self.has_hash:
            return ""
        return self.md5 or self.sha256 or Path(self.name).stem.rsplit("-", 1)[1]

    @property
    def hash_name(self) -> HashName:
        """The name of the hash."""
        return "MD5" if self.md5 else "SHA-256"


def fetch(what: str, published: PublishedCheckpoint) -> Path:
    """Return the path of a published file, downloaded once and checked by its hash.

    `what` names the model in errors. A download that breaks off continues where it stopped. Raises
    WeightsError with the address and the place for the file if there is no network, and with the
    path if the file is not what was published.
    """
    path = cache_folder() / published.name
    _download(published, path, what)
    digest = hash_of(path, published.hash_name)
    if not digest.startswith(published.digest):
        raise WeightsError(
            f"{path}: its {published.hash_name} starts with {digest[:8]}, the published one with "
            f"{published.digest[:8]}; delete the file to download it again"
        )
    return path


def _download(published: PublishedCheckpoint, path: Path, what: str, instead: str = "") -> None:
    """Download a file to `path` unless it is there; raise WeightsError as `fetch` does."""
    if path.exists():
        return
    try:
        download(published.url, path, published.digest, published.hash_name)
    except OSError as error:
        raise WeightsError(
            f"{what}: cannot download {published.url} ({error}); fetch it elsewhere and put it at "
            f"{path}{instead}"
        ) from None


@dataclass(frozen=True)
class PublishedRepository:
    """A hub repository at the commit at which its files were seen.

    Without a `revision` it is the newest. `sha256` is that of model.safetensors, where known.
    """

    repository: str
    revision: str | None
    license: str
    sha256: str | None = None


def fetch_published(name: str, published: PublishedRepository) -> Path:
    """Return the folder of published weights, downloaded once and checked by its hash.

    Raises WeightsError with the address if there is no network, and with the path if the file is
    not what was published.
    """
    try:
        folder = fetch_hub(published.repository, published.revision)
    except WeightsError as error:
        raise WeightsError(f"{name}: {error}") from None
    weights = folder / "model.safetensors"
    if published.sha256 is not None and sha256_of(weights) != published.sha256:
        raise WeightsError(
            f"{weights}: its SHA-256 does not start with {published.sha256[:8]}, as that of the "
            "published file; delete the file to download it again"
        )
    return folder


def fetch_torchvision(weights: Any, what: str, instead: str) -> dict[str, Tensor]:
    """Return the tensors of a member of torchvision's weights enums, downloaded once and checked.

    Raises WeightsError with the address, the place for the file and what to do `instead` if there
    is no network.
    """
    from torch.hub import get_dir

    published = PublishedCheckpoint(weights.url)
    path = Path(get_dir()) / "checkpoints" / published.name  # where torchvision looks for it
    _download(published, path, what, f", {instead}")
    state: dict[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True)
    return state
