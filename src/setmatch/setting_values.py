"""The values that settings of a recipe take: numbers, counts, sides in pixels, and `auto`."""

import sys
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator

MIN_SIDE_PX = 64  # least side of the images a model is trained on
LEAST_TILE_PX = 32  # a tile is resized to what the model takes


def _parse_number(value: object) -> object:
    """Read '1e-4' as a number; YAML 1.1 reads it as a string."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _check_argument(value: object) -> object:
    value = _parse_number(value)
    if isinstance(value, list) and all(map(_is_number, value)):
        return value
    if not (isinstance(value, str) or _is_number(value)):
        raise ValueError("expected a finite number, true, false, a word or a list of numbers")
    return value


def _is_number(value: object) -> bool:
    # math.isfinite fails for an integer that no float can hold.
    return isinstance(value, int | float) and abs(value) <= sys.float_info.max


def _check_integer_or_auto(value: object) -> int | str:
    if value != "auto" and (isinstance(value, bool) or not isinstance(value, int)):
        raise ValueError("expected an integer or auto")
    return value


def _check_side(side_px: int | str) -> int | str:
    if isinstance(side_px, int) and side_px < MIN_SIDE_PX:
        raise ValueError(
            f"the coarsest feature map has one cell per 32 pixels, so such images are too small to "
            f"detect anything; use {MIN_SIDE_PX} or more (smaller images are enlarged)"
        )
    return side_px


def _check_not_negative(count: int | str) -> int | str:
    if isinstance(count, int) and count < 0:
        raise ValueError("expected 0 or more, or auto")
    return count


def _check_positive(count: int | str) -> int | str:
    if isinstance(count, int) and count < 1:
        raise ValueError("expected 1 or more, or auto")
    return count


def _check_tiles(tiles: object) -> int | str | None:
    if tiles is None or tiles == "auto":
        return tiles
    if isinstance(tiles, bool) or not isinstance(tiles, int) or tiles < LEAST_TILE_PX:
        raise ValueError(f"expected auto, null, or a side of {LEAST_TILE_PX} pixels or more")
    return tiles


def _check_num_queries(count: object) -> int | str | None:
    return None if count is None else _check_positive(_check_integer_or_auto(count))


Real = Annotated[float, BeforeValidator(_parse_number), Field(allow_inf_nan=False)]
NotNegative = Annotated[Real, Field(ge=0)]
Positive = Annotated[Real, Field(gt=0)]
Fraction = Annotated[Real, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
CountOrZero = Annotated[int, Field(ge=0)]
IntegerOrAuto = Annotated[int | Literal["auto"], PlainValidator(_check_integer_or_auto)]
SidePx = Annotated[IntegerOrAuto, AfterValidator(_check_side)]
Side = Annotated[int, AfterValidator(_check_side)]
Workers = Annotated[IntegerOrAuto, AfterValidator(_check_not_negative)]
Freeze = Literal["stem", "backbone", "encoder", "none"]
CountOrAuto = Annotated[IntegerOrAuto, AfterValidator(_check_positive)]
NumQueries = Annotated[int | Literal["auto"] | None, PlainValidator(_check_num_queries)]
TileSide = Annotated[int | Literal["auto"] | None, PlainValidator(_check_tiles)]
Argument = Annotated[bool | int | float | str | list[float], PlainValidator(_check_argument)]
