"""Which class of a model is a class of the data, whose name may be written in another way."""

import re
from collections.abc import Callable, Hashable, Sequence

from setmatch.models.weights.classes.coco import OLD_NAMES


def same_classes(old: Sequence[str | None], new: Sequence[str | None]) -> list[int | None]:
    """Return for each new name the index of the old class that it names, or None.

    Names agree in this order: as they are but for capitals; but for signs and blanks
    (traffic_light); by the names that COCO had in its first years (aeroplane); as one and many
    (cars); as a part of a name with a slash (Monitor/TV). An old class that is found in an earlier
    way is not found again in a later one, and none is if two of them agree equally well.
    """
    rows: list[int | None] = [None] * len(new)
    for written in (str.casefold, _letters, _today, _one, _parts):
        taken = {row for row in rows if row is not None}
        places: dict[Hashable, list[int]] = {}
        for index, name in enumerate(old):
            for key in _keys(written, name) if index not in taken else ():
                places.setdefault(key, []).append(index)
        for index, name in enumerate(new):
            found = {row for key in _keys(written, name) for row in places.get(key, [])}
            if rows[index] is None and (len(found) == 1 or (written is str.casefold and found)):
                rows[index] = max(found)
    return rows


def _keys(written: Callable[[str], str | set[str]], name: str | None) -> set[str]:
    keys = written(name) if name else set()
    return {key for key in ({keys} if isinstance(keys, str) else keys) if key}


def _letters(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold())


def _today(name: str) -> str:
    letters = _letters(name)
    return _letters(OLD_NAMES.get(letters, letters))


def _one(name: str) -> str:
    return re.sub(r"(?<=ch|sh)es$|(?<=x)es$|(?<=[^s])s$", "", _today(name))


def _parts(name: str) -> set[str]:
    return {_one(part) for part in name.split("/")}
