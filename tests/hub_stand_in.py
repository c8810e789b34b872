"""A hub in a folder: what its client does, without a network. Calls must fit the real client."""

import hashlib
import inspect
import shutil
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

REAL = {name: getattr(HfApi, name) for name in ("model_info", "create_repo", "create_commit")}
snapshot_download = huggingface_hub.snapshot_download


class HubStandIn:
    """The repositories of a hub, their commits, and the errors that it is to respond with.

    `failures` has the exception that a method raises, by its name.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.private: dict[str, bool] = {}
        self.commits: list[tuple[str, ...]] = []  # the files that each commit adds
        self.asked: list[str] = []
        self.failures: dict[str, Exception] = {}

    def add(self, name: str, *files: str, private: bool = False) -> None:
        """Let there be a repository with some files."""
        self.private[name] = private
        (self.folder / name).mkdir(parents=True)
        for file in (".gitattributes", *files):
            (self.folder / name / file).write_text(file)

    def files(self, name: str) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted((self.folder / name).iterdir())}

    def head(self, name: str) -> str:
        """The commit of a repository: it follows from what is in there."""
        return hashlib.sha1(repr(sorted(self.files(name).items())).encode()).hexdigest()

    def call(self, method: str, *given: Any, **named: Any) -> Any:
        bound = inspect.signature(REAL[method]).bind(None, *given, **named)
        self.asked.append(method)
        if method in self.failures:
            raise self.failures[method]
        return getattr(self, method)(**{k: v for k, v in bound.arguments.items() if k != "self"})

    def model_info(self, repo_id: str) -> Any:
        if repo_id not in self.private:
            raise refusal(404, RepositoryNotFoundError)
        siblings = [SimpleNamespace(rfilename=name) for name in self.files(repo_id)]
        return SimpleNamespace(
            sha=self.head(repo_id), siblings=siblings, private=self.private[repo_id]
        )

    def create_repo(self, repo_id: str, private: bool) -> None:
        self.add(repo_id, private=private)

    def create_commit(
        self, repo_id: str, operations: list[Any], commit_message: str, parent_commit: str | None
    ) -> Any:
        if parent_commit not in (None, self.head(repo_id)):
            raise refusal(412)
        assert commit_message
        place = self.folder / repo_id
        added = [each for each in operations if isinstance(each, CommitOperationAdd)]
        for each in added:
            shutil.copy(each.path_or_fileobj, place / each.path_in_repo)
        for each in operations:
            if isinstance(each, CommitOperationDelete):
                (place / each.path_in_repo).unlink()
        self.commits.append(tuple(each.path_in_repo for each in added))
        return SimpleNamespace(commit_url=f"https://huggingface.co/{repo_id}/commit/1")

    def download(self, repo_id: str, **named: Any) -> str:
        bound = inspect.signature(snapshot_download).bind(repo_id, **named).arguments
        if repo_id not in self.private:
            raise refusal(404, RepositoryNotFoundError)
        cache = self.folder / "cache" / repo_id
        shutil.rmtree(cache, ignore_errors=True)
        cache.mkdir(parents=True)
        for name, content in self.files(repo_id).items():
            if any(fnmatch(name, pattern) for pattern in bound["allow_patterns"]):
                (cache / name).write_bytes(content)
        return str(cache)


def refusal(status: int, kind: type[Exception] = HfHubHTTPError) -> Exception:
    """What the client raises when the hub responds with a status."""
    error = kind.__new__(kind)  # what its constructors take differs between versions
    Exception.__init__(error, f"{status} Client Error")
    error.response = SimpleNamespace(status_code=status)
    return error


def replace_hub_client(folder: Path, monkeypatch: pytest.MonkeyPatch) -> HubStandIn:
    """Let the hub's client talk to a stand-in, with a token and a network."""
    hub = HubStandIn(folder)
    for method in REAL:

        def call(_: HfApi, *given: Any, _method: str = method, **named: Any) -> Any:
            return hub.call(_method, *given, **named)

        monkeypatch.setattr(HfApi, method, call)
    monkeypatch.setattr("huggingface_hub.snapshot_download", hub.download)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "hf_token")
    monkeypatch.setattr("setmatch.models.weights.downloads.hub.why_unreachable", lambda: None)
    return hub
