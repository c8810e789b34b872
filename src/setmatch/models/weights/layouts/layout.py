"""A checkpoint layout: how one published code names and stores the weights of a model family."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from setmatch.errors import WeightsError, short
from setmatch.models.weights.layouts.key_map import State, Table, names_beside
from setmatch.models.weights.raw_checkpoint import RawCheckpoint
from setmatch.models.weights.terms import UNKNOWN, Terms
from setmatch.structures.metadata import ModelCard

# What settings and tensors of another kind than expected raise.
_READING = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError)
OTHER_VERSION = (
    "if the weights are complete, the model has changed since they were saved: load them with the "
    "setmatch version that saved them, or train again"
)
_MOST_COMPARED = 5000  # tensors, several times as many as the largest detector has
_MOST_PREFIXES = 3  # parts of a name that a trainer may have put before it


@dataclass(frozen=True, eq=False)
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
    family: str = ""  # whose published code wrote them; empty for weights of setmatch

    @property
    def explanation(self) -> str:
        """Why weights may not fit the model of their card."""
        if not self.family:
            return OTHER_VERSION
        return f"the checkpoint is incomplete, or {_of_other_family(self.family)}"


@dataclass(frozen=True)
class CheckpointLayout:
    """How to recognize, read and write one layout.

    `matches` takes the tensor names of a checkpoint. `read` renames its tensors into ours (see
    `key_map.from_layout`) and makes the model card; it raises WeightsError for a checkpoint that it
    cannot read. `write`, if there is one, writes a file or folder and raises WeightsError for a
    model that the layout has no place for. `family` and the `table` of its names are for messages.

    To add a layout from outside, append it to `setmatch.models.registry.LAYOUTS`.
    """

    name: str
    matches: Callable[[Collection[str]], bool]
    read: Callable[[RawCheckpoint], LoadedWeights]
    write: Callable[[ModelCard, State, Path], None] | None = None
    family: str = "a family of your own"
    table: Table = ()


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
    families = ", ".join(dict.fromkeys(layout.family for layout in layouts))
    raise WeightsError(
        f"{raw.path}: not a checkpoint that can be read; its tensors "
        f"({short(next(iter(raw.state), 'none'))}, ...) fit none of the layouts of {families}"
        f"{_nearest(raw.state, layouts)}"
    )


def _nearest(state: State, layouts: Sequence[CheckpointLayout]) -> str:
    """Say which layout knows most of the tensors, what it does not know, and what it misses."""
    if len(state) > _MOST_COMPARED:
        return ""
    beside = [(layout.family, *names_beside(state, layout.table)) for layout in layouts]
    family, unknown, missing = min(beside, key=lambda found: len(found[1]))
    known = len(state) - len(unknown)
    if not known:
        return ""
    said = f"; nearest is {family}, which has names for {known} of {len(state)} tensors"
    for kind, names in (("not for", unknown), ("missing:", missing)):
        if names:
            more = f" and {len(names) - 2} others" if len(names) > 2 else ""
            said += f"; {kind} {', '.join(map(short, names[:2]))}{more}"
    return said


def _of_other_family(family: str) -> str:
    return f"not of {family}, the nearest family"


def _read(raw: RawCheckpoint, layout: CheckpointLayout) -> LoadedWeights:
    try:
        weights = layout.read(raw)
    except WeightsError as error:
        if str(raw.path) in str(error):
            raise
        raise WeightsError(
            f"{raw.path}: {error}; the checkpoint has tensors of something else, or is "
            f"{_of_other_family(layout.family)}"
        ) from None
    except _READING as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise WeightsError(
            f"{raw.path}: its tensors or settings are not those of the layout {layout.name} "
            f"({reason}); it is damaged, or of another model, {_of_other_family(layout.family)}"
        ) from None
    return replace(weights, notes=raw.notes + weights.notes, family=layout.family)


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
