"""Loading, saving and converting weights: published names, hub repositories, files, run folders."""

import dataclasses
import logging
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from safetensors.torch import save_file

from setmatch.argument_types import checked_except
from setmatch.errors import ConfigError, WeightsError, suggest
from setmatch.files.manifest import MANIFEST, DamagedError, read_manifest
from setmatch.files.reading import sha256_of
from setmatch.files.writing import atomic_file, atomic_files, require_folder
from setmatch.models.adapt import adapt_classes, adapt_num_queries
from setmatch.models.detector import Detector, require_weights
from setmatch.models.factory import import_named
from setmatch.models.registry import LAYOUTS, MODELS, PUBLISHED, layouts_of
from setmatch.models.weights.card import (
    BUNDLED,
    CARD,
    WEIGHTS,
    card_from_json,
    card_to_json,
    is_card,
)
from setmatch.models.weights.downloads.hub import fetch_hub, is_hub_id
from setmatch.models.weights.fit import fit
from setmatch.models.weights.int8 import compact, expand
from setmatch.models.weights.layouts.hub_folder import stated_license
from setmatch.models.weights.layouts.key_map import State
from setmatch.models.weights.layouts.layout import LoadedWeights, read_layout
from setmatch.models.weights.other_files import refuse_other_file
from setmatch.models.weights.raw_checkpoint import (
    CONFIG,
    SAFETENSORS,
    is_hub_weights,
    read_hub_folder,
    read_pth,
)
from setmatch.models.weights.tensor_files import read_safetensors
from setmatch.models.weights.terms import KNOWN, UNKNOWN, require_accepted, show_license_once
from setmatch.structures.metadata import Categories, ModelCard, Preprocessing

log = logging.getLogger("setmatch")
EXPORTED = (".onnx", ".xml", ".pt2")  # files without weights that could be trained


def load(
    source: str | Path,
    preset: str | None = None,
    categories: Categories | None = None,
    num_queries: int | None = None,
    preprocessing: Preprocessing | None = None,
    accept_license: str | None = None,
) -> Detector:
    """Return a detector with trained weights, in evaluation mode.

    `source` is the name of bundled weights ("scenes_n"), a published name ("detr_r50": downloaded,
    checked, cached), a hub repository or folder in transformers' layout, one that `push` wrote, a
    .pth of the published code, a run folder, or a folder or file that `save` wrote. `preset` is
    needed for a .pth that does not store its model. A model of your own, outside of setmatch,
    loads once its module is imported: a file must not choose which code runs.
    `categories` changes the classes (rows with the same names are kept), `num_queries` the number
    of queries. What was kept, new or assumed is logged as a warning of the logger "setmatch".
    `preprocessing` replaces the image size of the weights' card; images are normalized as in the
    training of the weights.
    `accept_license` names the terms of weights that are not free for every use, such as
    "objects365"; the error says what they are.
    Raises WeightsError for weights that are missing, damaged, or do not fit.
    """
    detector, notes = load_with_notes(
        source, preset, categories, num_queries, preprocessing, accept_license
    )
    say(source, notes)
    return detector


def say(source: str | Path, notes: Iterable[str]) -> None:
    """Log what loading kept, made new or assumed."""
    for note in notes:
        log.warning("%s: %s", source, note)


def load_with_notes(
    source: str | Path,
    preset: str | None = None,
    categories: Categories | None = None,
    num_queries: int | None = None,
    preprocessing: Preprocessing | None = None,
    accept_license: str | None = None,
) -> tuple[Detector, list[str]]:
    """Return what `load` returns, and the notes for `say` once the model suits the caller."""
    loaded = read(source, preset, accept_license)
    fitting = fit(loaded.card, loaded.state, str(source), loaded.explanation)
    notes = [*loaded.notes, *fitting.notes]
    card, state = loaded.card, fitting.state
    if categories is not None:
        card, state, changed = adapt_classes(card, state, categories)
        notes += changed
    if num_queries is not None:
        card, state, changed = adapt_num_queries(card, state, num_queries)
        notes += changed
    if card is not loaded.card:
        fitting = fit(card, state, str(source))
    detector = fitting.fill()
    if preprocessing is not None:
        own = detector.card.preprocessing
        resized = dataclasses.replace(preprocessing, mean=own.mean, std=own.std)
        detector.card = dataclasses.replace(detector.card, preprocessing=resized)
    return detector, notes


def read(
    source: str | Path, preset: str | None = None, accept_license: str | None = None
) -> LoadedWeights:
    """Read what `load` reads, without building the model."""
    if preset is not None:
        import_named(preset)
    loaded = _read(source, preset)
    require_accepted(loaded.terms, str(source), accept_license)
    if loaded.is_published:
        show_license_once(str(source), loaded.card.license)
    return loaded


def _read(source: str | Path, preset: str | None) -> LoadedWeights:
    name, path = str(source), Path(source)
    if path.is_dir():
        return _read_folder(path, preset)
    if path.is_file():
        return _read_file(path, preset)
    if name in bundled():
        return _read_folder(BUNDLED / name)
    if name in PUBLISHED:
        return dataclasses.replace(PUBLISHED[name](), is_published=True)
    if is_hub_id(name):
        return _read_hub(name, preset)
    raise WeightsError(_unknown(name))


def _read_hub(name: str, preset: str | None) -> LoadedWeights:
    folder = fetch_hub(name)
    if is_card(folder / CARD):
        loaded = _read_ours(folder / WEIGHTS)
        loaded = dataclasses.replace(loaded, terms=KNOWN.get(loaded.card.license))
    else:
        loaded = read_layout(read_hub_folder(folder, name, preset), LAYOUTS)
    card = loaded.card
    if card.license == UNKNOWN:
        card = dataclasses.replace(card, license=stated_license(folder) or UNKNOWN)
    return dataclasses.replace(loaded, card=card, is_published=True)


def preset_of(source: str | Path) -> str:
    """Return the preset of the weights that `read` would read, if possible without a download.

    Raises WeightsError as `read` does.
    """
    name = str(source)
    if name in PUBLISHED and not Path(name).exists():
        return name  # published weights are called like their preset
    return read(source).card.preset


def _unknown(name: str) -> str:
    published = [*bundled(), *PUBLISHED]
    if name in MODELS:
        return f"{name}: no weights are published under this name; train it and load the run folder"
    known = "`setmatch models` lists the published names; a hub repository is owner/name"
    hint = suggest(name, [*published, *MODELS], known)
    return f"{name}: no such file or folder, and no published name; {hint}"


def bundled() -> list[str]:
    """Return the names of the example weights that come with setmatch."""
    return sorted(card.parent.name for card in BUNDLED.glob(f"*/{CARD}"))


def assemble(card: ModelCard, state: State, source: str) -> Detector:
    """Build the model of `card` with the tensors of `state`, in evaluation mode.

    Raises WeightsError as `fit` does.
    """
    return fit(card, state, source).fill()


@checked_except("detector")
def save(
    detector: Detector,
    folder: str | Path,
    *,
    small: bool = False,
    thresholds: Mapping[str, float] | None = None,
) -> None:
    """Write the weights and their card, model.safetensors and model.json, into `folder`.

    `thresholds` replaces the best score threshold of each class on the card.
    `small` stores one byte per weight instead of four (see weights/int8.py); loading expands them.
    Each file is written atomically. The card holds the SHA-256 of the weights, which is checked
    when they are loaded. Raises ConfigError for the engine of an exported file, and for a folder
    that takes no files.
    """
    require_weights(detector, "save")
    require_folder(folder)
    folder, card = Path(folder), detector.card
    if thresholds is not None:
        card = dataclasses.replace(card, thresholds=thresholds)
    state = {key: value.detach().contiguous() for key, value in detector.state_dict().items()}
    if small:
        state = compact(state)
    with atomic_file(folder / WEIGHTS) as temporary:
        save_file(state, temporary)
        temporary.chmod(0o666 & ~_umask())  # safetensors lets only the owner read the file
        digest = sha256_of(temporary)
    with atomic_file(folder / CARD) as temporary:
        temporary.write_text(card_to_json(card, digest), encoding="utf-8")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def convert_weights(
    source: str | Path,
    destination: str | Path,
    to: str,
    preset: str | None = None,
    accept_license: str | None = None,
) -> LoadedWeights:
    """Write the weights of `source` in another layout and return what was read.

    "original" writes a .pth file that the published code loads strictly. "setmatch",
    "setmatch-small" (one byte per weight) and "transformers" write a folder. Raises ConfigError for
    an existing destination; an interrupted conversion leaves nothing behind.
    """
    destination = Path(destination)
    if destination.exists():
        raise ConfigError(f"{destination}: exists already; name a new file or folder")
    _require_layout(to)
    loaded = read(source, preset, accept_license)
    fitting = fit(loaded.card, loaded.state, str(source), loaded.explanation)
    notes = loaded.notes + fitting.notes
    loaded = LoadedWeights(fitting.detector.card, fitting.state, notes)
    with atomic_files(destination) as temporary:  # a layout may be a file or a folder
        _write_as(to, loaded, temporary)
    return loaded


def _to_setmatch(loaded: LoadedWeights, destination: Path) -> None:
    save(assemble(loaded.card, loaded.state, loaded.card.source), destination)


def _to_small(loaded: LoadedWeights, destination: Path) -> None:
    save(assemble(loaded.card, loaded.state, loaded.card.source), destination, small=True)


WRITERS: dict[str, Callable[[LoadedWeights, Path], None]] = {
    "setmatch": _to_setmatch,
    "setmatch-small": _to_small,
}


def _require_layout(name: str) -> None:
    known = dict.fromkeys([*WRITERS, *(each.name for each in LAYOUTS if each.write is not None)])
    if name not in known:
        raise ConfigError(f"layout {name}: choose one of {', '.join(known)}")


def _write_as(name: str, loaded: LoadedWeights, destination: Path) -> None:
    """Write in the layout `name`: ours, or one of the model's family."""
    if name in WRITERS:
        WRITERS[name](loaded, destination)
        return
    preset = loaded.card.preset
    write = next((each.write for each in layouts_of(preset) if each.name == name), None)
    if write is None:
        raise WeightsError(
            f"{preset}: the layout {name} does not have this model; write it as setmatch"
        )
    write(loaded.card, loaded.state, destination)


def _read_folder(folder: Path, preset: str | None = None) -> LoadedWeights:
    if (folder / CARD).is_file():
        return _read_ours(folder / WEIGHTS)
    if (folder / CONFIG).is_file():
        return read_layout(read_hub_folder(folder, str(folder), preset), LAYOUTS)
    trainer = _trainer_checkpoints(folder)
    if trainer:
        loaded = read_layout(read_hub_folder(trainer[-1], str(folder), preset), LAYOUTS)
        note = f"weights of {trainer[-1].name}, the newest of {len(trainer)} checkpoints"
        return dataclasses.replace(loaded, notes=(note, *loaded.notes))
    candidates = [folder / "best", *sorted((folder / "checkpoints").glob("step_*"), reverse=True)]
    problems = []
    for candidate in candidates:
        if (candidate / CARD).is_file():
            try:
                read_manifest(candidate, [CARD])
                loaded = _read_ours(candidate / WEIGHTS)
            except (WeightsError, DamagedError) as error:
                problems.append(str(error))
            else:
                return dataclasses.replace(loaded, notes=(*problems, f"weights of {candidate}"))
    if problems:
        raise WeightsError(f"{folder}: no undamaged weights in this run: {problems[0]}")
    raise WeightsError(
        f"{folder}: neither a run folder with checkpoints, nor {CARD} or {CONFIG} in it; give a "
        "model first, then data"
    )


def _trainer_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints that a trainer of transformers left in `folder`, oldest first."""
    numbered = {
        int(each.name.removeprefix("checkpoint-")): each
        for each in folder.glob("checkpoint-*")
        if re.fullmatch(r"checkpoint-[0-9]{1,18}", each.name) and (each / CONFIG).is_file()
    }
    return [numbered[number] for number in sorted(numbered)]


def _read_file(path: Path, preset: str | None) -> LoadedWeights:
    if path.suffix.lower() in EXPORTED:
        raise WeightsError(
            f"{path}: an exported model, which predicts and is evaluated, but holds no weights to "
            "train, convert or explain; give the run folder or the weights it was made from"
        )
    refuse_other_file(path)
    if is_hub_weights(path) and not path.with_suffix(".json").exists():
        return read_layout(read_hub_folder(path.parent, str(path), preset), LAYOUTS)
    if path.suffix == ".safetensors":
        if not path.with_suffix(".json").exists():
            raise WeightsError(
                f"{path}: there is no card beside it ({path.with_suffix('.json').name}); copy both "
                f"files, or, for weights of transformers, put {CONFIG} beside {SAFETENSORS}"
            )
        return _read_ours(path)
    return read_layout(read_pth(path, preset), LAYOUTS)


def _read_ours(path: Path) -> LoadedWeights:
    """Read weights whose SHA-256 is in their card, and the card's in the manifest of a run."""
    if path.with_name(MANIFEST).exists():
        try:
            read_manifest(path.parent, [path.with_suffix(".json").name])
        except DamagedError as error:
            raise WeightsError(f"{error}; load other weights of the run, or train again") from None
    card, digest = card_from_json(path.with_suffix(".json"))
    if not path.is_file():
        raise WeightsError(f"{path}: missing next to its card; copy both files")
    if sha256_of(path) != digest:
        raise WeightsError(f"{path}: damaged, or not the file that its card describes")
    try:
        return LoadedWeights(card, expand(read_safetensors(path)), ())
    except ValueError as error:
        raise WeightsError(f"{path}: {error}") from None
