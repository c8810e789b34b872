"""A list of records read a key at a time into arrays; whatever is wrong is named by place."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from jaxtyping import Float64, Int64

from setmatch.errors import DataError


@dataclass(frozen=True)
class Column:
    """Whole numbers of one key, and which of them were written as text or with a fraction .0."""

    values: Int64[np.ndarray, " R"]
    rewritten: Sequence[int]


@dataclass(frozen=True)
class Records:
    """The objects of one list of an annotation file; `place` says in words where one stands.

    Columns are checked by the set of their values' types, which is fast; only when that fails is
    each value looked at, to name the culprit.
    """

    file: Path
    key: str
    rows: Sequence[Any]
    place: Callable[[int], str] | None = None

    @classmethod
    def of(
        cls, file: Path, tree: dict[str, Any], key: str, record: type[msgspec.Struct]
    ) -> "Records":
        """Return the list `key` of a file; DataError when it is no list of objects."""
        rows = tree.get(key)
        if rows is None:
            found = ", ".join(repr(name) for name in list(tree)[:8]) or "nothing"
            raise DataError(
                f"{file}: no list {key!r} as COCO's files have, but {found}; add it, or name the "
                "file that has it"
            )
        if not isinstance(rows, list):
            raise DataError(f"{file}: {key!r} is {short(rows)}; it should be a list")
        if set(map(type, rows)) - {dict}:
            culprit = next(i for i, row in enumerate(rows) if type(row) is not dict)
            value = short(rows[culprit])
            raise DataError(f"{file}: {key}[{culprit}] is {value}; it should be an object")
        known = record.__struct_fields__
        kept = [{name: row[name] for name in known if name in row} for row in rows]
        return cls(file, key, [record(**fields) for fields in kept])

    def __len__(self) -> int:
        return len(self.rows)

    def error(self, position: int, problem: str) -> DataError:
        """Return the error that names the object at `position` by place and id."""
        return DataError(f"{self.file}: {self.named(position)}: {problem}")

    def named(self, position: int) -> str:
        """Return the place and the id of the object at `position`."""
        id_ = getattr(self.rows[position], "id", None)
        place = f"{self.key}[{position}]" if self.place is None else self.place(position)
        return place if id_ is None else f"{place} (id {short(id_)})"

    def some(self, key: str, positions: Sequence[int]) -> str:
        """Return how many objects a fix of `key` is about, and the first of them."""
        return f"{key} of {len(positions)} {self.key}, the first {self.named(positions[0])}"

    def values(self, key: str) -> list[Any]:
        """Return what stands under a key, as it is; None where it is absent."""
        return [getattr(row, key) for row in self.rows]

    def whole(self, key: str, missing: int | None = None) -> Column:
        """Return a key's whole numbers; text of digits and floats such as 3.0 are understood.

        Absent or null is read as `missing`, and is an error when that is None. Raises DataError
        for anything else, and for numbers beyond 64 bits.
        """
        values: list[Any] = self.values(key)
        rewritten: list[int] = []
        if set(map(type, values)) - {int}:
            plain = [_whole(value, missing) for value in values]
            self._refuse(plain, key, values, "a whole number")
            rewritten = [i for i, value in enumerate(values) if type(value) in (str, float)]
            values = plain
        try:
            return Column(np.array(values, dtype=np.int64), rewritten)
        except OverflowError:
            fits = [value if abs(value) < 2**63 else None for value in values]
            self._refuse(fits, key, values, "a number of at most 64 bits")
            raise

    def texts(self, key: str) -> list[str]:
        """Return a key's texts; DataError where one is absent, empty or cannot be encoded."""
        values: list[Any] = self.values(key)
        plain = [_text(value) for value in values]
        self._refuse(plain, key, values, "a text")
        return [text for text in plain if text is not None]

    def numbers(self, key: str) -> Float64[np.ndarray, " R"]:
        """Return a key's numbers; NaN where there is none."""
        values: list[Any] = self.values(key)
        if set(map(type, values)) - {float}:
            values = [_number(value) for value in values]
        return np.array(values, dtype=np.float64)

    def quadruples(self, key: str) -> Float64[np.ndarray, "R 4"]:
        """Return a key's lists of four numbers, null read as NaN; DataError for anything else."""
        values: list[Any] = self.values(key)
        shaped = not set(map(type, values)) - {list} and not set(map(len, values)) - {4}
        if not shaped or set(map(type, chain.from_iterable(values))) - {int, float}:
            plain = [_quadruple(value) for value in values]
            self._refuse(plain, key, values, "a list of four numbers")
            values = plain
        try:
            return np.array(values, dtype=np.float64).reshape(-1, 4)
        except OverflowError:  # a whole number beyond every float
            return np.array([[_number(side) for side in value] for value in values])

    def _refuse(self, plain: Sequence[object], key: str, values: Sequence[Any], what: str) -> None:
        culprit = next((i for i, value in enumerate(plain) if value is None), None)
        if culprit is None:
            return
        if values[culprit] is None:
            raise self.error(culprit, f"has no {key!r}; it should be {what}")
        raise self.error(culprit, f"{key!r} is {short(values[culprit])}; it should be {what}")


def _whole(value: object, missing: int | None) -> int | None:
    if value is None:
        return missing
    if type(value) is int:
        return value
    if type(value) is float and value.is_integer():
        return int(value)
    # int() would also take "1_000" and " 7 ".
    if type(value) is str and len(value) < 20 and value.isascii() and value.isdigit():
        return int(value)
    return None


def _text(value: object) -> str | None:
    if not isinstance(value, str) or not value:
        return None
    try:
        value.encode()
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can spell
        return None
    return value


def _number(value: object) -> float:
    if type(value) not in (int, float):
        return float("nan")
    try:
        return float(value)  # type: ignore[arg-type]
    except OverflowError:
        return float("inf")


def _quadruple(value: object) -> list[float] | None:
    if not isinstance(value, list) or len(value) != 4:
        return None
    if any(side is not None and type(side) not in (int, float) for side in value):
        return None
    return [_number(side) for side in value]


def short(value: object) -> str:
    """Return a value as an error message shows it, cut to 60 characters."""
    try:
        text = repr(value)
    except ValueError:  # a number of more digits than Python prints
        text = type(value).__name__
    return text if len(text) <= 60 else f"{text[:57]}..."
