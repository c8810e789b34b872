"""Errors that a user can fix: each says what is wrong, where, and what to do, in one line."""

import difflib
from collections.abc import Collection, Iterator, Sequence


class SetmatchError(Exception):
    """Base of all errors that a user can fix. The command line prints it and exits with 2."""

    exit_code = 2


class ConfigError(SetmatchError):
    """A recipe, option or model name that does not exist or is not valid."""


class DataError(SetmatchError):
    """A data set, annotation or image that cannot be read or cannot be trained on."""


class WeightsError(SetmatchError):
    """Weights that are missing, damaged, or do not fit the model they are loaded into."""


class TrainingError(SetmatchError):
    """A run that cannot continue: no finite loss, or no intact checkpoint to resume from."""


class UnwritableError(TrainingError):
    """A file of a run that cannot be written, as on a full disk. What was written before stays."""


class UnreachableError(SetmatchError):
    """A machine that cannot be reached now. Results so far are kept; trying again resumes."""


class VerificationError(SetmatchError):
    """An exported file whose detections differ from those of its model."""


class ExtraMissingError(SetmatchError):
    """An optional library that is not installed. The message names the extra to install."""


_SHORTEST_BEGINNING, _MOST_NAMES = 4, 5  # letters of a beginning; names that advice lists


def suggest(
    name: str, known: Collection[str], otherwise: str | None = None, prefix: str = ""
) -> str:
    """Return advice for an unknown name: "did you mean X?" for the most similar known name.

    Where it is the beginning of known names, these are the similar ones. `prefix` is written
    before them. If none is similar, return `otherwise`, or the list of all known names.
    """
    begun = [each for each in known if each.casefold().startswith(name.casefold())]
    if begun and len(name) >= _SHORTEST_BEGINNING:
        more = ", ..." * (len(begun) > _MOST_NAMES)
        listed = [f"{prefix}{each}" for each in begun[:_MOST_NAMES]]
        return (
            f"did you mean {' or '.join(listed) if len(begun) <= 2 else ', '.join(listed)}{more}?"
        )
    spelled = {each.casefold(): each for each in known}  # capitals alone are a small difference
    similar = difflib.get_close_matches(name.casefold(), spelled, n=1)
    if similar:
        return f"did you mean {prefix}{spelled[similar[0]]}?"
    return f"known are {', '.join(known)}" if otherwise is None else otherwise


def diverged(what: str) -> WeightsError:
    """Return the error for a model whose outputs, such as "scores or boxes", are not finite."""
    return WeightsError(
        f"the model predicts {what} that are not finite: its weights have diverged or are damaged; "
        "load earlier weights, or train again with a lower learning rate"
    )


def counted(count: float, noun: str) -> str:
    """Return a number of things as a message says it: "1 step", "1,008 steps", "2 processes"."""
    number = f"{count:,}" if isinstance(count, int) else f"{count:g}"
    sibilant = noun.endswith(("s", "x", "ch", "sh")) and not noun.endswith("epoch")
    plural = "es" if sibilant else "s"
    return f"{number} {noun}{plural * (count != 1)}"


def quoted(names: Sequence[str | None], most: int = 8) -> str:
    """Return class names as a message shows them: in quotes, and how many more there are.

    Blanks and capitals, in which names may differ, are visible then.
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(short(name) for name in names[:most]) + more


def short(value: object, most: int = 60) -> str:
    """Return a value from a file as an error message shows it, cut to `most` characters.

    It is the beginning of `repr`, which is never made as a whole: it may be larger than the file.
    """
    text = ""
    for piece in _pieces(value, most):
        text += piece
        if len(text) > most:
            return f"{text[: most - 3]}..."
    return text


def _pieces(value: object, most: int) -> Iterator[str]:
    """Yield the `repr` of a value in pieces; pieces of one text or number are cut by `most`."""
    if isinstance(value, dict):
        yield "{"
        for number, (key, inner) in enumerate(value.items()):
            yield ", " if number else ""
            yield from _pieces(key, most)
            yield ": "
            yield from _pieces(inner, most)
        yield "}"
    elif isinstance(value, list | tuple):
        first, last = "[]" if isinstance(value, list) else "()"
        yield first
        for number, inner in enumerate(value):
            yield ", " if number else ""
            yield from _pieces(inner, most)
        yield "," if isinstance(value, tuple) and len(value) == 1 else ""
        yield last
    elif isinstance(value, str | bytes):
        yield repr(value[: most + 1])
    else:
        try:
            yield " ".join(repr(value).split())  # of a tensor or a model, it has many lines
        except ValueError:  # a number of more digits than Python prints
            yield type(value).__name__
