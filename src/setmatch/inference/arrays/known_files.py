"""Files that engines were made of before, found by the bytes of the weights, without torch.

`deploy.engine_cache` keeps the files by the weights of a detector, which only torch can build. A
note beside them says which file belongs to which weights and card on the disk.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from setmatch.errors import WeightsError
from setmatch.files.manifest import MANIFEST, DamagedError, read_manifest
from setmatch.files.reading import read_text, sha256_of
from setmatch.files.writing import cache_folder, write_text
from setmatch.models.weights.card import BUNDLED, CARD, WEIGHTS, card_from_json

_FILE = re.compile(r"[0-9a-f]{16}-[0-9a-f]{16}/[a-z]+-[0-9a-f]{16}/model\.[a-z0-9]+")


def note_file(source: str | Path, engine: str, file: Path, libraries: Sequence[str]) -> None:
    """Note that `file` in the cache runs the weights of `source` by an engine.

    It is used with the same versions of `libraries`. Nothing is noted of sources that are not
    weights and a card that setmatch wrote. Raises OSError if the cache cannot be written.
    """
    note = _note(source, engine)
    if note is None:
        return
    place = file.relative_to(_engines()).as_posix()
    assert _FILE.fullmatch(place), "the cache names its files so"
    note.parent.mkdir(parents=True, exist_ok=True)
    write_text(note, json.dumps({"file": place, "versions": _versions(libraries)}))


def known_file(source: str | Path, engine: str) -> Path | None:
    """Return the verified file that runs the weights of `source`, undamaged; None if unknown."""
    note = _note(source, engine)
    try:
        tree = {} if note is None else json.loads(read_text(note))
        place, versions = tree["file"], dict(tree["versions"])
        if not _FILE.fullmatch(place) or _versions(list(versions)) != versions:
            return None
        file = _engines() / place
        return file if file.name in read_manifest(file.parent)["files"] else None
    except (DamagedError, PackageNotFoundError):
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # a damaged note
        return None


def _engines() -> Path:
    return cache_folder() / "engines"


def _versions(libraries: Sequence[str]) -> dict[str, str]:
    return {name: version(name) for name in ("setmatch", *libraries)}


def _note(source: str | Path, engine: str) -> Path | None:
    """Return the path of the note for weights and an engine; None for weights of other kinds."""
    weights = _weights(source)
    if weights is None:
        return None
    try:
        if (weights.parent / MANIFEST).exists():
            read_manifest(weights.parent, [CARD])
        card = weights.with_suffix(".json")
        _, digest = card_from_json(card)
        if sha256_of(weights) != digest:
            return None
        text = f"{engine}\n{digest}\n{read_text(card)}"
    except (OSError, WeightsError, DamagedError):
        return None
    return _engines() / "weights" / f"{hashlib.sha256(text.encode()).hexdigest()}.json"


def _weights(source: str | Path) -> Path | None:
    """Return the file of weights that `load` would read; None for one of another layout."""
    path = Path(source)
    if path.is_file():
        return path if path.suffix == ".safetensors" else None
    folders = [path, path / "best"] if path.is_dir() else [BUNDLED / str(source)]
    for folder in folders:
        if (folder / CARD).is_file():
            return folder / WEIGHTS
        if (folder / "config.json").exists() or any(folder.glob("checkpoint-*")):
            return None  # of transformers
    return None
