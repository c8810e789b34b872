"""The Hugging Face hub: repositories are downloaded once, and written in one commit."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from ssl import SSLError
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from setmatch.errors import ConfigError, UnreachableError, WeightsError, short, suggest
from setmatch.models.weights.card import CARD, WEIGHTS

log = logging.getLogger("setmatch")
# README.md states the license; the card is that of a model which `push` wrote.
HUB_FILES = ("config.json", "preprocessor_config.json", WEIGHTS, "README.md", CARD)
HUB_PARTS = ("model.safetensors.index.json", "model-*-of-*.safetensors")
# Older repositories have these alone; newer ones often have both, of which one is enough.
HUB_BIN = ("pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-*-of-*.bin")
OF_THE_HUB = ".gitattributes"  # the hub writes it into each repository
# A name that ends like a file is taken for one.
FILE_SUFFIXES = {
    *(".pth", ".pt", ".bin", ".ckpt", ".safetensors", ".json", ".yaml", ".yml"),
    *(".onnx", ".xml", ".pt2", ".html", ".jpg", ".png"),
}
ASK_S = 10  # how long the hub may take to respond


@dataclass(frozen=True)
class HubRepository:
    """What a repository of models has now: the newest commit, its files, and who sees it."""

    commit: str | None
    files: tuple[str, ...]
    is_private: bool


def is_hub_id(name: str) -> bool:
    """Return whether a name is that of a hub repository, owner/name, and not of a file."""
    owner, _, model = name.partition("/")
    is_path = owner in ("", ".", "..", "~") or not model or "/" in model
    return not is_path and Path(name).suffix.lower() not in FILE_SUFFIXES


def require_hub_id(name: str) -> None:
    """Raise ConfigError for what the hub takes for no name, or `load` for a file."""
    if not (_is_valid(name) and "/" in name and is_hub_id(name)):
        raise ConfigError(
            f"{short(name)}: not a name of a hub repository; give your own name or an "
            "organization's, and that of the model, as in anna/blood-cells: letters, digits, and "
            "single dashes, dots and underscores inside"
        )


def require_dataset_id(name: str) -> None:
    """Raise ConfigError for no name of a data set on the hub, a few of which have no owner."""
    if not _is_valid(name):
        raise ConfigError(
            f"dataset {short(name)}: not a name of a data set on the hub; give its owner and its "
            "name, as in anna/cell-images: letters, digits, and single dashes, dots and "
            "underscores inside"
        )


def _is_valid(name: str) -> bool:
    """Return whether the hub takes a text for the name of a repository, with or without owner."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        for part in (name, *name.split("/")):
            validate_repo_id(part)
    except HFValidationError:
        return False
    # Older versions of the library let other letters and a line break at the end pass.
    return name.isascii() and name.strip() == name


def fetch_hub(repository: str, revision: str | None = None) -> Path:
    """Return the folder of a hub repository, downloaded once by huggingface_hub.

    What is there of a `revision` (a commit) never changes, so that nothing is asked. Raises
    WeightsError with the files to fetch if there is no network or no such repository.
    """
    from huggingface_hub import snapshot_download, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    # Without a network it would report each of six attempts, twice, before our own error.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)

    def cached(name: str) -> Any:
        return try_to_load_from_cache(repository, name, revision=revision)

    def snapshot(*weights: str) -> Path:
        return Path(
            snapshot_download(
                repository,
                revision=revision,
                allow_patterns=[*HUB_FILES, *weights],
                local_files_only=unreachable is not None,
            )
        )

    unreachable = None
    try:
        if revision is not None and all(isinstance(cached(name), str) for name in HUB_FILES[:3]):
            return Path(cached(HUB_FILES[0])).parent
        if not any(isinstance(cached(name), str) for name in (HUB_FILES[0], CARD)):
            log.warning("%s: asking huggingface.co for it", repository)
        unreachable = why_unreachable()
        folder = snapshot(*HUB_PARTS)
        return folder if any(folder.glob("model*.safetensors")) else snapshot(*HUB_BIN)
    except _errors(HFValidationError) as error:
        reason = (unreachable or str(error)).strip() or type(error).__name__
        here = Path(repository)
        if here.parent.is_dir():  # rather a typo in the path of a run
            names = [each.name for each in here.parent.iterdir() if each.is_dir()]
            advice = suggest(here.name, names, "it has no such folder", f"{here.parent}/")
            raise WeightsError(
                f"{repository}: no such file or folder in {here.parent}; {advice} "
                f"(the hub has no such repository either: {reason.splitlines()[0]})"
            ) from None
        raise WeightsError(
            f"{repository}: no such file or folder, and the hub cannot be reached or does not have "
            f"it ({reason.splitlines()[0]}); fetch its {', '.join(HUB_FILES[:3])} elsewhere (from "
            f"https://huggingface.co/{repository}/tree/{revision or 'main'}; of setmatch's own "
            f"models its {WEIGHTS} and {CARD}) into one folder and load that folder"
        ) from None


def require_token() -> None:
    """Raise ConfigError unless there is a token to write to the hub with."""
    from huggingface_hub import get_token

    if get_token() is None:
        raise ConfigError(
            "the hub needs a token to know you by: make one that may write at "
            "https://huggingface.co/settings/tokens, then run `hf auth login`, or set HF_TOKEN"
        )


def find_repository(name: str) -> HubRepository | None:
    """Return what the hub has under a name; None if it has nothing that you may see.

    Raises UnreachableError without a network, ConfigError if the hub refuses the token.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    unreachable = why_unreachable()
    if unreachable is not None:
        raise UnreachableError(
            f"{name}: the hub cannot be reached ({unreachable}); nothing was uploaded, try again"
        )
    with _explained(name):
        try:
            info = HfApi().model_info(name)
        except RepositoryNotFoundError:
            return None
        files = tuple(each.rfilename for each in info.siblings or ())
        return HubRepository(info.sha, files, bool(info.private))


def create_repository(name: str, private: bool) -> HubRepository:
    """Create an empty repository; raises as `find_repository`."""
    from huggingface_hub import HfApi

    with _explained(name):
        HfApi().create_repo(name, private=private)
    return HubRepository(None, (), private)


def commit_folder(name: str, folder: Path, found: HubRepository, message: str) -> str:
    """Replace the files of a repository by those of a folder, in one commit; return its address.

    Nothing changes if the repository has changed since it was `found`, which raises ConfigError as
    all that the hub refuses does; UnreachableError if the network breaks down.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    names = [path.name for path in sorted(folder.iterdir())]
    with _explained(name):
        commit = HfApi().create_commit(
            name,
            [
                *(CommitOperationAdd(each, folder / each) for each in names),
                *(CommitOperationDelete(each) for each in others(found, names)),
            ],
            commit_message=message,
            parent_commit=found.commit,
        )
    return str(commit.commit_url)


def others(found: HubRepository, names: list[str]) -> list[str]:
    """Return the files of a repository that are neither among `names` nor the hub's own."""
    return [each for each in found.files if each not in {*names, OF_THE_HUB}]


def why_unreachable() -> str | None:
    """Ask the hub once whether it is there; return the reason if it cannot be reached.

    Where the hub's library downloads, it asks six times within half a minute, and says nothing.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    try:
        with urlopen(Request(constants.ENDPOINT, method="HEAD"), timeout=ASK_S):  # noqa: S310
            return None
    except HTTPError:
        return None
    except OSError as error:
        reason = error.reason if isinstance(error, URLError) else error
        # The library may trust other certificates than the system does.
        return None if isinstance(reason, SSLError) else str(reason)


REFUSALS = {
    401: "the hub does not accept your token; make a new one and run `hf auth login`",
    403: "your token may not write there; it needs the permission to write, and the name before "
    "the slash must be yours or that of an organization of yours",
    409: "somebody else has just changed it; look at it and try again",
    412: "somebody else has just changed it; look at it and try again",
}


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turn what the hub's library raises into one line, and say what has become of the files.

    A commit is whole or not there. After a break nobody here knows which.
    """
    from huggingface_hub.errors import HfHubHTTPError

    try:
        yield
    except _errors(ValueError, RuntimeError) as error:  # RuntimeError: of hf-xet
        response = getattr(error, "response", None)
        status = 0 if response is None else int(response.status_code)
        said = " ".join(str(error).split()).partition(" For more information check")[0]
        reason = f"{name}: {REFUSALS.get(status, said[:300].rstrip('.') or type(error).__name__)}"
        if isinstance(error, HfHubHTTPError | ValueError) and status < 500:
            raise ConfigError(f"{reason}; no file there has changed") from None
        raise UnreachableError(
            f"{reason}; either all files have arrived or none: look there, then try again"
        ) from None


def _errors(*others: type[Exception]) -> tuple[type[Exception], ...]:
    """Return the errors that end a request: the system's, the HTTP client's, and `others`."""
    from huggingface_hub.errors import HfHubHTTPError

    sending = (each for each in HfHubHTTPError.__bases__ if issubclass(each, Exception))
    return (OSError, *sending, *others)
