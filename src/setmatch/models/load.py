"""Weights in and out: published names, hub repositories, files and run folders become detectors."""

import dataclasses
import difflib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from setmatch.errors import ConfigError, WeightsError
from setmatch.models.adapt import adapt_classes, adapt_num_queries
from setmatch.models.detector import Detector
from setmatch.models.detr.checkpoint import read_original, write_original
from setmatch.models.detr.transformers_checkpoint import (
    fetch_hub,
    read_transformers,
    write_transformers,
)
from setmatch.models.registry import MODELS, build
from setmatch.models.torchvision.checkpoint import BASELINE_WEIGHTS, read_baseline
from setmatch.models.torchvision.model import BASELINES
from setmatch.models.weights.card import card_from_json, card_to_json
from setmatch.models.weights.download import PUBLISHED, fetch, sha256_of
from setmatch.models.weights.int8 import compact, expand
from setmatch.models.weights.key_map import State
from setmatch.structures.metadata import Categories, ModelCard, Preprocessing

log = logging.getLogger("setmatch")
WEIGHTS, CARD = "model.safetensors", "model.json"
BUNDLED = Path(__file__).parents[1] / "weights"
OTHER_VERSION = (
    "where the weights are whole, this model has changed since they were saved: load them with the "
    "setmatch that saved them, or train again"
)


@dataclass(frozen=True)
class Loaded:
    """A card and the tensors that fit it, in our names; `notes` say what was assumed or changed."""

    card: ModelCard
    state: State
    notes: tuple[str, ...]


def load(
    source: str | Path,
    preset: str | None = None,
    categories: Categories | None = None,
    num_queries: int | None = None,
    preprocessing: Preprocessing | None = None,
) -> Detector:
    """Return a detector with trained weights, in eval mode.

    `source` is the name of weights that come along ("scenes_n"), a published name ("detr_r50":
    downloaded, checked, cached), a hub repository or folder in transformers' layout, a .pth of the
    published code (read safely; `preset` says which model it is where the file cannot), a run
    folder, or a folder or file that `save` wrote.
    `categories` gives the model other classes (rows of names it knows are kept) and `num_queries`
    more or fewer queries; what was kept, new or assumed is logged as a warning of "setmatch".
    `preprocessing` replaces the image size and normalization of the weights' card.
    Raises WeightsError for what is missing, damaged, or does not fit.
    """
    loaded = read(source, preset)
    notes = list(loaded.notes)
    card, state = loaded.card, loaded.state
    if categories is not None:
        card, state, changed = adapt_classes(card, state, categories)
        notes += changed
    if num_queries is not None:
        card, state, changed = adapt_num_queries(card, state, num_queries)
        notes += changed
    if preprocessing is not None:
        card = dataclasses.replace(card, preprocessing=preprocessing)
    for note in notes:
        log.warning("%s: %s", source, note)
    return assemble(card, state, str(source))


def read(source: str | Path, preset: str | None = None) -> Loaded:
    """Read what `load` reads, without building the model."""
    name, path = str(source), Path(source)
    if path.is_dir():
        return _read_folder(path)
    if path.is_file():
        return _read_file(path, preset)
    if name in bundled():
        return _read_folder(BUNDLED / name)
    if name in PUBLISHED:
        return Loaded(*_frozen(read_original(fetch(name), None)))
    if name in BASELINE_WEIGHTS:
        return Loaded(*_frozen(read_baseline(name)))
    if name.count("/") == 1 and not path.suffix:
        return Loaded(*_frozen(read_transformers(fetch_hub(name), name)))
    raise WeightsError(_unknown(name))


def preset_of(source: str | Path) -> str:
    """Return the preset of the weights that `read` would read, without a download if it can.

    Raises WeightsError as `read` does.
    """
    name = str(source)
    called_like_it = name in PUBLISHED or name in BASELINE_WEIGHTS
    return name if called_like_it and not Path(name).exists() else read(source).card.preset


def _unknown(name: str) -> str:
    presets, published = {**MODELS, **BASELINES}, [*bundled(), *PUBLISHED, *BASELINE_WEIGHTS]
    if name in presets:
        return f"{name}: no weights are published under this name; train it, and name the run"
    near = difflib.get_close_matches(name, [*published, *presets], n=1)
    known = f"published are {', '.join(published)}; a hub repository is owner/name"
    hint = f"did you mean {near[0]}?" if near else known
    return f"{name}: no such file or folder, and no published name; {hint}"


def bundled() -> list[str]:
    """Return the names of the example weights that come with setmatch: no download is needed."""
    return sorted(card.parent.name for card in BUNDLED.glob(f"*/{CARD}"))


def assemble(card: ModelCard, state: State, source: str) -> Detector:
    """Build the model of `card` around `state`, in eval mode; never with a tensor left to chance.

    Raises WeightsError that lists what is missing, left over, of another shape, or no longer known.
    """
    try:
        with torch.device("meta"):
            detector = build(card)
    except ConfigError as error:
        raise WeightsError(f"{source}: {error}; {OTHER_VERSION}") from None
    expected = {key: tuple(value.shape) for key, value in detector.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in state.items()}
    if expected != found:
        differences = _differences(expected, found)
        raise WeightsError(f"{source}: does not fit {card.preset}: {differences}; {OTHER_VERSION}")
    detector.load_state_dict(state, strict=True, assign=True)
    return detector.to(memory_format=torch.channels_last).eval()


def save(detector: Detector, folder: str | Path, *, small: bool = False) -> None:
    """Write the weights and their card, model.safetensors and model.json, into `folder`.

    `small` spends one byte on a weight instead of four (see compact.py); loading undoes it.
    Each file is written aside and renamed; a card that does not belong to the weights beside it is
    found by the SHA-256 in it when they are loaded.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = {key: value.detach().contiguous() for key, value in detector.state_dict().items()}
    if small:
        state = compact(state)
    aside = folder / f".{WEIGHTS}.{os.getpid()}"
    try:
        save_file(state, aside)
        aside.chmod(0o666 & ~_umask())  # safetensors leaves a file that only its owner can read
        digest = sha256_of(aside)
        aside.rename(folder / WEIGHTS)
        aside.write_text(card_to_json(detector.card, digest), encoding="utf-8")
        aside.rename(folder / CARD)
    finally:
        aside.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def convert_weights(
    source: str | Path,
    destination: str | Path,
    to: str,
    preset: str | None = None,
) -> Loaded:
    """Write the weights of `source` in another layout; returns what was read.

    "original" writes a .pth file that the published code loads strictly; "setmatch" and
    "transformers" write a folder, as does "setmatch-small", with a byte for a weight. Nothing is
    half-written, and nothing there is overwritten.
    """
    destination = Path(destination)
    if destination.exists():
        raise ConfigError(f"{destination}: exists already; name a new file or folder")
    if to not in WRITERS:
        raise ConfigError(f"layout {to}: choose one of {', '.join(WRITERS)}")
    loaded = read(source, preset)
    destination.parent.mkdir(parents=True, exist_ok=True)
    workshop = Path(tempfile.mkdtemp(dir=destination.parent, prefix=f".{destination.name}."))
    try:
        made = workshop / destination.name
        WRITERS[to](loaded, made)
        made.rename(destination)
    finally:
        shutil.rmtree(workshop)
    return loaded


def _to_setmatch(loaded: Loaded, destination: Path) -> None:
    save(assemble(loaded.card, loaded.state, loaded.card.source), destination)


def _to_small(loaded: Loaded, destination: Path) -> None:
    save(assemble(loaded.card, loaded.state, loaded.card.source), destination, small=True)


def _to_original(loaded: Loaded, destination: Path) -> None:
    write_original(loaded.card, loaded.state, destination)


def _to_transformers(loaded: Loaded, destination: Path) -> None:
    destination.mkdir()
    write_transformers(loaded.card, loaded.state, destination)


WRITERS: dict[str, Callable[[Loaded, Path], None]] = {
    "setmatch": _to_setmatch,
    "setmatch-small": _to_small,
    "original": _to_original,
    "transformers": _to_transformers,
}


def _read_folder(folder: Path) -> Loaded:
    if (folder / CARD).is_file():
        return _read_ours(folder / WEIGHTS)
    if (folder / "config.json").is_file():
        return Loaded(*_frozen(read_transformers(folder, str(folder))))
    kept = [folder / "best", *sorted((folder / "checkpoints").glob("step_*"), reverse=True)]
    problems = []
    for candidate in kept:
        if (candidate / CARD).is_file():
            try:
                loaded = _read_ours(candidate / WEIGHTS)
            except WeightsError as error:
                problems.append(str(error))
            else:
                return dataclasses.replace(loaded, notes=(*problems, f"weights of {candidate}"))
    if problems:
        raise WeightsError(f"{folder}: no undamaged weights in this run: {problems[0]}")
    raise WeightsError(
        f"{folder}: neither a run folder with checkpoints, nor {CARD} or config.json in it"
    )


def _read_file(path: Path, preset: str | None) -> Loaded:
    if path.suffix == ".safetensors":
        return _read_ours(path)
    return Loaded(*_frozen(read_original(path, preset)))


def _read_ours(path: Path) -> Loaded:
    card, digest = card_from_json(path.with_suffix(".json"))
    if not path.is_file():
        raise WeightsError(f"{path}: missing beside its card; copy both files")
    if sha256_of(path) != digest:
        raise WeightsError(f"{path}: damaged, or not the weights that its card belongs to")
    try:
        return Loaded(card, expand(load_file(path)), ())
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path}: cannot be read ({error})") from None


def _frozen(parts: tuple[ModelCard, State, list[str]]) -> tuple[ModelCard, State, tuple[str, ...]]:
    card, state, notes = parts
    return card, state, tuple(notes)


def _differences(expected: dict[str, tuple[int, ...]], found: dict[str, tuple[int, ...]]) -> str:
    problems = [f"{key} is missing" for key in expected if key not in found]
    problems += [f"{key} has no place" for key in found if key not in expected]
    problems += [
        f"{key} is {found[key]}, not {expected[key]}"
        for key in expected
        if key in found and found[key] != expected[key]
    ]
    more = f", and {len(problems) - 3} more" if len(problems) > 3 else ""
    return "; ".join(problems[:3]) + more
