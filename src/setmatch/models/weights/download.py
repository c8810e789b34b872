"""Downloading published weights, once and checked: files, hub repositories, torchvision's."""

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError

from torch import Tensor

from setmatch.errors import WeightsError
from setmatch.files.reading import open_regular
from setmatch.files.writing import cache_folder

log = logging.getLogger("setmatch")
HUB_FILES = ("config.json", "preprocessor_config.json", "model.safetensors")
HUB_PARTS = ("model.safetensors.index.json", "model-*-of-*.safetensors")
# Older repositories have these alone; newer ones often have both, of which one is enough.
HUB_BIN = ("pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-*-of-*.bin")


@dataclass(frozen=True)
class PublishedCheckpoint:
    """A published file, named NAME-DIGEST.EXT by the first hex digits of its SHA-256."""

    url: str
    license: str = "unknown"

    @property
    def name(self) -> str:
        """The name of the file."""
        return self.url.rsplit("/", 1)[1]

    @property
    def digest(self) -> str:
        """The first hex digits of the file's SHA-256."""
        return Path(self.name).stem.rsplit("-", 1)[1]


def fetch(what: str, published: PublishedCheckpoint) -> Path:
    """Return the path of a published file, downloaded once and checked by its hash.

    `what` names the model in errors. Raises WeightsError with the address and the place for the
    file if there is no network, and with the path if the file is not what was published.
    """
    from torch.hub import download_url_to_file

    path = cache_folder() / published.name
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            download_url_to_file(published.url, str(path), hash_prefix=published.digest)
        except (URLError, OSError, RuntimeError) as error:
            raise WeightsError(
                f"{what}: cannot download {published.url} ({error}); "
                f"fetch it elsewhere and put it at {path}"
            ) from None
    digest = sha256_of(path)
    if not digest.startswith(published.digest):
        raise WeightsError(
            f"{path}: its SHA-256 starts with {digest[:8]}, the published one with "
            f"{published.digest}; delete the file to download it again"
        )
    return path


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
    weights = folder / HUB_FILES[-1]
    if published.sha256 is not None and sha256_of(weights) != published.sha256:
        raise WeightsError(
            f"{weights}: its SHA-256 does not start with {published.sha256[:8]}, as that of the "
            "published file; delete the file to download it again"
        )
    return folder


def fetch_hub(repository: str, revision: str | None = None) -> Path:
    """Return the folder of a hub repository, downloaded once by huggingface_hub.

    Raises WeightsError with the files to fetch if there is no network or no such repository.
    """
    from huggingface_hub import snapshot_download, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    # Without a network it would report each of six attempts, twice, before our own error.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    try:
        if try_to_load_from_cache(repository, HUB_FILES[0], revision=revision) is None:
            log.warning("%s: asking huggingface.co for it", repository)
        patterns = [*HUB_FILES, *HUB_PARTS]
        folder = Path(snapshot_download(repository, revision=revision, allow_patterns=patterns))
        if not any(folder.glob("model*.safetensors")):
            patterns = [*HUB_FILES, *HUB_BIN]
            snapshot_download(repository, revision=revision, allow_patterns=patterns)
        return folder
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise WeightsError(
            f"{repository}: no such file or folder, and the hub cannot be reached or does not have "
            f"it ({reason}); fetch its {', '.join(HUB_FILES)} elsewhere (from "
            f"https://huggingface.co/{repository}/tree/{revision or 'main'}) into one folder and "
            "load that folder"
        ) from None


def fetch_torchvision(weights: Any, what: str, instead: str) -> dict[str, Tensor]:
    """Return the tensors of a member of torchvision's weights enums, downloaded once and checked.

    Raises WeightsError with the address, the place for the file and what to do `instead` if there
    is no network.
    """
    from torch.hub import get_dir

    try:
        state: dict[str, Tensor] = weights.get_state_dict(progress=True, check_hash=True)
    except (URLError, OSError, RuntimeError) as error:
        file = weights.url.rsplit("/", 1)[1]
        raise WeightsError(
            f"{what}: cannot download {weights.url} ({error}); fetch it elsewhere and put it at "
            f"{get_dir()}/checkpoints/{file}, {instead}"
        ) from None
    return state


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hex digits."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
