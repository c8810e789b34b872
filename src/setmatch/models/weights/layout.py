"""A checkpoint layout: how one published code names and stores the weights of a model family."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from setmatch.errors import WeightsError, short
from setmatch.models.weights.key_map import State
from setmatch.models.weights.raw_checkpoint import RawCheckpoint
from setmatch.models.weights.terms import UNKNOWN, Terms
from setmatch.structures.metadata import ModelCard

# What settings and tensors of another kind than expected raise.
_READING = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError)
_MOST_PREFIXES = 3  # parts of a name that a trainer may have put before it


@dataclass(frozen=True)
class LoadedWeights:
    """A model card and tensors in our names; `notes` list what was assumed or changed.

    Weights with `terms` are not used before these are accepted. If `is_published` (the weights were
    named by a published name or hub id, not a path), the license is shown.
    """

    card: ModelCard
    state: State
    notes: tuple[str, ...] = ()
    terms: Terms | None = None
    is_published: bool = False


@dataclass(frozen=True)
class CheckpointLayout:
    """How to recognize, read and write one layout.

    `matches` takes the tensor names of a checkpoint. `read` renames its tensors into ours (see
    `key_map.from_layout`) and makes the model card; it raises WeightsError for a checkpoint that it
    cannot read. `write`, if there is one, writes a file or folder and raises WeightsError for a
    model that the layout has no place for.

    To add a layout from outside, append it to `setmatch.models.registry.LAYOUTS`.
    """

    name: str
    matches: Callable[[Collection[str]], bool]
    read: Callable[[RawCheckpoint], LoadedWeights]
    write: Callable[[ModelCard, State, Path], None] | None = None


def loaded(
    raw: RawCheckpoint,
    card: ModelCard,
    state: State,
    notes: Sequence[str],
    terms: Terms | None,
    licenses: Mapping[str, str],
) -> LoadedWeights:
    """Return weights whose card has the license and the source of a checkpoint.

    `licenses` are those of published sources. A preset that the user chose replaces the card's.
    """
    license = terms.name if terms else licenses.get(raw.source, UNKNOWN)
    card = replace(card, preset=raw.preset or card.preset, license=license, source=raw.source)
    return LoadedWeights(card, state, tuple(notes), terms)


def read_layout(raw: RawCheckpoint, layouts: Sequence[CheckpointLayout]) -> LoadedWeights:
    """Read a checkpoint in the first of `layouts` that matches its tensors.

    A trainer may have put a prefix before the names of the model's tensors, and others beside them;
    these are left out, with a note. Raises WeightsError if no layout matches.
    """
    for prefix, state in _below_prefixes(raw.state):
        for layout in layouts:
            if layout.matches(state.keys()):
                notes = raw.notes + _left_out(raw.state, prefix, len(state))
                return _read(replace(raw, state=state, notes=notes), layout)
    known, first = ", ".join(layout.name for layout in layouts), next(iter(raw.state), "none")
    raise WeightsError(
        f"{raw.path}: not a checkpoint that can be read; its tensors ({short(first)}, ...) fit "
        f"none of the layouts {known}"
    )


def _read(raw: RawCheckpoint, layout: CheckpointLayout) -> LoadedWeights:
    try:
        weights = layout.read(raw)
    except WeightsError as error:
        if str(raw.path) in str(error):
            raise
        raise WeightsError(f"{raw.path}: {error}") from None
    except _READING as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise WeightsError(
            f"{raw.path}: its tensors or settings are not those of the layout {layout.name} "
            f"({reason}); it is damaged, or of another model"
        ) from None
    return replace(weights, notes=raw.notes + weights.notes)


def _below_prefixes(state: State) -> Iterator[tuple[str, State]]:
    """Yield the tensors as they are, then those below each first part of the names, and so on."""
    waiting = [("", state)]
    for prefix, inner in waiting:
        yield prefix, inner
        if prefix.count(".") >= _MOST_PREFIXES:
            continue
        below: dict[str, State] = {}
        for key, value in inner.items():
            first, dot, rest = key.partition(".")
            if dot:
                below.setdefault(f"{prefix}{first}.", {})[rest] = value
        waiting += below.items()


def _left_out(state: State, prefix: str, kept: int) -> tuple[str, ...]:
    others = [key for key in state if not key.startswith(prefix)]
    if not others:
        return ()
    return (
        f"read the {kept} tensors below {short(prefix)}; left out {len(others)} others, such as "
        f"{short(others[0])}",
    )
