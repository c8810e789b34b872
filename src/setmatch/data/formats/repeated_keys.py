"""Find JSON objects that have one key twice, of which every parser keeps the last in silence."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from setmatch.errors import DataError, short


class _RepeatedKeyError(Exception):
    """An object has one key twice."""


def refuse_repeated_keys(source: Path, text: bytes, most: Mapping[str, int]) -> None:
    """Raise DataError where an object in `text`, the content of `source`, has a key twice.

    `most` says how often some keys may be there at the most, once in each object that has them.
    Only a file with more of one is parsed again to look for it; hardly any has.
    """
    # The quotation mark before a key stands before every key, which makes the search slow.
    if all(text.count(f'{key}"'.encode()) <= count for key, count in most.items()):
        return
    try:
        json.loads(text, object_pairs_hook=_without_repeats)
    except _RepeatedKeyError as error:
        problem = "is twice in one object, and the last would count; remove one"
        raise DataError(f"{source}: {short(error.args[0])} {problem}") from None
    except (ValueError, RecursionError):
        return  # whoever parses the text says so


def _without_repeats(pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise _RepeatedKeyError(key)
        seen.add(key)
