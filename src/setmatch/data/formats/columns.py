"""Read a list of records into arrays, one key at a time, and locate every wrong value."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from jaxtyping import Float64, Int64

from setmatch.errors import DataError, short


@dataclass(frozen=True)
class Column:
    """The integers of one key, and the positions of those written as text or as 3.0."""

    values: Int64[np.ndarray, " R"]
    rewritten: Sequence[int]


@dataclass(frozen=True)
class Records:
    """The objects of one list of an annotation file.

    A column is checked by the set of its values' types, which is fast. Only when that fails are
    the values checked one by one, to locate the wrong one.
    """

    file: Path
    key: str
    rows: Sequence[Any]
    place: Callable[[int], str] | None = None  # describes where a row is; None: "key[row]"

    @classmethod
    def of(
        cls, file: Path, tree: dict[str, Any], key: str, record: type[msgspec.Struct]
    ) -> "Records":
        """Return the list `key` of a file; raises DataError when it is not a list of objects."""
        rows = tree.get(key)
        if rows is None:
            found = ", ".join(short(name) for name in list(tree)[:8]) or "nothing"
            raise DataError(
                f"{file}: no list {key!r} as COCO files have, but {found}; add it, or name the "
                "file that has it"
            )
        if not isinstance(rows, list):
            raise DataError(f"{file}: {key!r} is {short(rows)}; it should be a list")
        if set(map(type, rows)) - {dict}:
            wrong = next(i for i, row in enumerate(rows) if type(row) is not dict)
            value = short(rows[wrong])
            raise DataError(f"{file}: {key}[{wrong}] is {value}; it should be an object")
        known = record.__struct_fields__
        kept = [{name: row[name] for name in known if name in row} for row in rows]
        return cls(file, key, [record(**fields) for fields in kept])

    def __len__(self) -> int:
        return len(self.rows)

    def error(self, position: int, problem: str) -> DataError:
        """Return an error that names the object at `position` by place and id."""
        return DataError(f"{self.file}: {self.place_of(position)}: {problem}")

    def place_of(self, position: int) -> str:
        """Return the place and the id of the object at `position`."""
        id_ = getattr(self.rows[position], "id", None)
        place = f"{self.key}[{position}]" if self.place is None else self.place(position)
        return place if id_ is None else f"{place} (id {short(id_)})"

    def describe(self, key: str, positions: Sequence[int]) -> str:
        """Return how many objects have an issue with `key`, and which is the first."""
        return f"{key} of {len(positions)} {self.key}, the first {self.place_of(positions[0])}"

    def values(self, key: str) -> list[Any]:
        """Return the unchecked values of a key; None where it is absent."""
        return [getattr(row, key) for row in self.rows]

    def integers(self, key: str, missing: int | None = None) -> Column:
        """Return a key's integers; text of digits and floats such as 3.0 are accepted.

        An absent value is read as `missing`; if `missing` is None, it is an error. Raises DataError
        for anything else, and for numbers beyond 64 bits.
        """
        values: list[Any] = self.values(key)
        rewritten: list[int] = []
        if set(map(type, values)) - {int}:
            plain = [missing if value is None else as_integer(value) for value in values]
            self._require(plain, key, values, "an integer")
            rewritten = [i for i, value in enumerate(values) if type(value) in (str, float)]
            values = plain
        try:
            return Column(np.array(values, dtype=np.int64), rewritten)
        except OverflowError:
            fits = [value if abs(value) < 2**63 else None for value in values]
            self._require(fits, key, values, "a number of at most 64 bits")
            raise

    def texts(self, key: str) -> list[str]:
        """Return a key's strings; raises DataError where one is absent, empty or not Unicode."""
        values: list[Any] = self.values(key)
        plain = [_text(value) for value in values]
        self._require(plain, key, values, "a non-empty string")
        return [text for text in plain if text is not None]

    def paths(self, key: str, values: Sequence[Any] | None = None) -> list[str]:
        r"""Return a key's file names as `texts` does, also those that are not UTF-8.

        Their other bytes are written as \udc80 to \udcff, as `os.fsdecode` gives them. `values` may
        stand in for those of the key.
        """
        values = self.values(key) if values is None else values
        plain = [_text(value, "surrogateescape") for value in values]
        self._require(plain, key, values, "a non-empty string")
        return [text for text in plain if text is not None]

    def numbers(self, key: str) -> Float64[np.ndarray, " R"]:
        """Return a key's numbers, which may be texts; NaN where a value is absent or none."""
        values: list[Any] = self.values(key)
        if set(map(type, values)) - {float}:
            values = [as_number(value) for value in values]
        return np.array(values, dtype=np.float64)

    def quadruples(self, key: str) -> Float64[np.ndarray, "R 4"]:
        """Return a key's lists of four numbers, null as NaN; raises DataError for anything else."""
        values: list[Any] = self.values(key)
        shaped = not set(map(type, values)) - {list} and not set(map(len, values)) - {4}
        if not shaped or set(map(type, chain.from_iterable(values))) - {int, float}:
            plain = [_quadruple(value) for value in values]
            self._require(plain, key, values, "a list of four numbers")
            values = plain
        try:
            return np.array(values, dtype=np.float64).reshape(-1, 4)
        except OverflowError:  # an integer beyond every float
            return np.array([[_number(side) for side in value] for value in values])

    def _require(self, plain: Sequence[object], key: str, values: Sequence[Any], what: str) -> None:
        wrong = next((i for i, value in enumerate(plain) if value is None), None)
        if wrong is None:
            return
        if values[wrong] is None:
            raise self.error(wrong, f"has no {key!r}; it should be {what}")
        raise self.error(wrong, f"{key!r} is {short(values[wrong])}; it should be {what}")


def as_integer(value: object) -> int | None:
    """Return an integer that may be written as text or as 3.0; None for anything else."""
    if type(value) is int:
        return value
    if type(value) is float and value.is_integer():
        return int(value)
    # int() would also take "1_000" and " 7 ".
    if type(value) is str and len(value) < 20 and value.isascii() and value.isdigit():
        return int(value)
    return None


def _text(value: object, errors: str = "strict") -> str | None:
    if not isinstance(value, str) or not value:
        return None
    try:
        value.encode(errors=errors)
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can contain
        return None
    return value


def as_number(value: object) -> float:
    """Return a number that may be written as text; NaN for anything else."""
    if not isinstance(value, str):
        return _number(value)
    # float() would also take "1_000" and "١".
    is_plain = value.isascii() and "_" not in value
    try:
        return float(value) if is_plain else float("nan")
    except ValueError:
        return float("nan")


def _number(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return float("nan")
    try:
        return float(value)
    except OverflowError:
        return float("inf")


def is_quadruple(value: object) -> bool:
    """Return whether a value is a list of four numbers; null may stand for one."""
    return _quadruple(value) is not None


def _quadruple(value: object) -> list[float] | None:
    if not isinstance(value, list) or len(value) != 4:
        return None
    if any(side is not None and type(side) not in (int, float) for side in value):
        return None
    return [_number(side) for side in value]
