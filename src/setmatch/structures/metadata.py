"""What a model needs beside its weights: classes, preprocessing, model card."""

import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any

from setmatch.errors import ConfigError, short, suggest

TRAINED_ON = "trained by setmatch on "  # the beginning of a source, before the data set
_MOST_DIGITS = 18  # of an index; int refuses to read thousands
_HALF_PAIR = re.compile("[\ud800-\udfff]")
STARTED_FROM = ", from "  # what follows the data set, before the initial weights, if any
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Categories:
    """The classes of a model or data set: class index i has the name `names[i]` and id `ids[i]`.

    The name is None for an unused index, as in the published COCO weights. `stuff` holds the
    indices of uncountable classes, such as sky and grass; all others are things. Raises ConfigError
    for ids that are not whole numbers or that repeat, names that are not text, and lists of unequal
    length.
    """

    ids: tuple[int, ...]
    names: tuple[str | None, ...]
    stuff: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        given = (self.ids, self.names)
        are_lists = all(isinstance(each, Sequence) and not isinstance(each, str) for each in given)
        if not are_lists or len(self.ids) != len(self.names):
            raise ConfigError(
                f"Categories: ids {short(self.ids)} and names {short(self.names)}; give a tuple of "
                'each, equally long, such as (1, 2) and ("cat", "dog")'
            )
        if not all(isinstance(each, Integral) for each in self.ids):
            raise ConfigError(f"Categories: ids {short(self.ids)}; each is a whole number")
        if len(set(self.ids)) < len(self.ids):
            raise ConfigError(f"Categories: ids {short(self.ids)}; each class has an id of its own")
        if not all(isinstance(each, str | None) for each in self.names):
            raise ConfigError(f"Categories: names {short(self.names)}; each is a string or None")
        if any(_HALF_PAIR.search(each) for each in self.names if each):
            raise ConfigError(
                f"Categories: names {short(self.names)}; one has half a surrogate pair, which no "
                "file can hold"
            )
        stuff: Any = self.stuff
        are_indices = isinstance(stuff, Set | Sequence) and not isinstance(stuff, str)
        count = len(self.ids)
        if not are_indices or not all(
            isinstance(each, Integral) and 0 <= int(each) < count for each in stuff
        ):
            raise ConfigError(
                f"Categories: stuff {short(stuff)}; give a set of class indices from 0 to "
                f"{count - 1}, not ids"
            )
        object.__setattr__(self, "ids", tuple(self.ids))
        object.__setattr__(self, "names", tuple(self.names))
        object.__setattr__(self, "stuff", frozenset(stuff))

    def __len__(self) -> int:
        return len(self.names)

    def name(self, class_index: int) -> str:
        """Return the name of a class; "class ID" for an unused index.

        Raises ConfigError for an index that there is not.
        """
        if not 0 <= class_index < len(self.names):
            raise ConfigError(f"class {class_index}: class indices are 0 to {len(self) - 1}")
        return self.names[class_index] or f"class {self.ids[class_index]}"

    def indices_of(self, wanted: str | int) -> list[int]:
        """Return the index of a class that is given by its index, or all indices of names.

        A string is a name, or names and indices separated by commas. A name that itself contains
        commas is written as it is: of several readings, the longest name counts. A string of
        digits that is not a name is an index. Raises ConfigError for an unknown class.
        """
        if isinstance(wanted, Integral) and not isinstance(wanted, bool):
            return [self._index(int(wanted))]
        if not isinstance(wanted, str):
            raise ConfigError(f"class {short(wanted)}: give the name or the index of a class")
        indices: dict[str, list[int]] = {}
        for index in range(len(self)):
            indices.setdefault(self.name(index), []).append(index)
        most = 1 + max(name.count(",") for name in indices)  # pieces of a name
        pieces, start, found = wanted.split(","), 0, list[int]()
        while start < len(pieces):
            ends = range(min(start + most, len(pieces)), start, -1)
            texts = ((end, ",".join(pieces[start:end])) for end in ends)
            known = ((end, name) for end, text in texts for name in (text, text.strip()))
            start, name = next(
                ((end, name) for end, name in known if name in indices),
                (start + 1, pieces[start].strip()),
            )
            found += indices[name] if name in indices else [self._index(name)]
        return found

    def _index(self, index: int | str) -> int:
        """Return an index, if there is a class of it; raise ConfigError otherwise."""
        if isinstance(index, str) and not index.isdecimal():
            names = [self.name(each) for each in range(len(self))]
            raise ConfigError(f"class {short(index)}: no such class; {suggest(index, names)}")
        too_long = isinstance(index, str) and len(index) > _MOST_DIGITS
        if too_long or not 0 <= int(index) < len(self):
            shown = index[:_MOST_DIGITS] if isinstance(index, str) else index
            raise ConfigError(f"class {shown}: class indices are 0 to {len(self) - 1}")
        return int(index)


@dataclass(frozen=True)
class Preprocessing:
    """How an image is resized and normalized before it enters the model.

    The short side is resized to `short_side_px`, or less if the long side would exceed
    `long_side_px`. Pixels are scaled to 0..1 and normalized with `mean` and `std` (RGB).
    A model of one size, `size_px` (height, width), has every image resized to it, whatever the
    image's own sides. If `resizes` is False, images keep their size, as for tiles.
    """

    short_side_px: int = 800
    long_side_px: int = 1333
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    size_px: tuple[int, int] | None = None
    resizes: bool = True


@dataclass(frozen=True)
class ModelCard:
    """What is needed to rebuild a model and to use its output; stored beside the weights.

    `arguments` are the keyword arguments of the preset, without the number of classes.
    `thresholds` has the score threshold with the highest F1 on the validation split, by class name,
    as far as training measured it.
    """

    preset: str
    arguments: Mapping[str, Any]
    categories: Categories
    preprocessing: Preprocessing = Preprocessing()
    license: str = "unknown"
    source: str = ""
    thresholds: Mapping[str, float] = field(default_factory=dict)
