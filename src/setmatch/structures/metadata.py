"""What a model knows beside its weights: classes, preprocessing, model card."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Categories:
    """The classes a model or data set knows: slot i of the logits is `names[i]`, id `ids[i]`.

    A slot that no class uses (the holes of the published COCO weights) has the name None. `stuff`
    are the slots of what is not counted, such as sky and grass; all others are things.
    """

    ids: tuple[int, ...]
    names: tuple[str | None, ...]
    stuff: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        assert len(self.ids) == len(self.names), "one id for every name"
        assert self.stuff <= set(range(len(self.ids))), "stuff is a part of the slots"

    def __len__(self) -> int:
        return len(self.names)

    def name(self, class_index: int) -> str:
        """Return the name of class slot `class_index`; a hole answers with its id."""
        return self.names[class_index] or f"class {self.ids[class_index]}"


@dataclass(frozen=True)
class Preprocessing:
    """What happens to a photograph before the model sees it.

    The short side becomes `short_side_px` unless the long side would pass `long_side_px`; pixels
    are scaled to 0..1 and normalized with `mean` and `std` (RGB).
    """

    short_side_px: int = 800
    long_side_px: int = 1333
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD


@dataclass(frozen=True)
class ModelCard:
    """All that is needed to build a model again and to use its answers; stored beside its weights.

    `arguments` are the keyword arguments of the preset besides the number of classes.
    """

    preset: str
    arguments: Mapping[str, Any]
    categories: Categories
    preprocessing: Preprocessing = Preprocessing()
    license: str = "unknown"
    source: str = ""
