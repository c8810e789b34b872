"""What the four numbers of a box mean: which layout, in which unit."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from setmatch.errors import ConfigError, suggest

Layout = Literal["xywh", "xyxy", "cxcywh", "yxyx"]
Unit = Literal["pixels", "relative", "percent", "thousandths"]
Rows = Literal["keypoints", "polygons"]
_LAYOUTS: dict[Layout, str] = {
    "xywh": "x, y, width, height",
    "xyxy": "corners x1, y1, x2, y2",
    "cxcywh": "center x, center y, width, height",
    "yxyx": "corners y1, x1, y2, x2",
}
_UNITS: dict[Unit, str] = {
    "pixels": "in pixels",
    "relative": "as fractions of the image",
    "percent": "in percent of the image",
    "thousandths": "in thousandths of the image",
}
_WHOLE: dict[Unit, float] = {"relative": 1.0, "percent": 100.0, "thousandths": 1000.0}  # the side
_ROWS: dict[Rows, str] = {
    "keypoints": "longer rows are a box and keypoints",
    "polygons": "longer rows are polygons",
}


@dataclass(frozen=True)
class BoxConvention:
    """How a file writes its boxes; `rows` says what rows of more than four numbers are, if known.

    Only YOLO has such rows.
    """

    layout: Layout
    unit: Unit
    rows: Rows | None = None

    @property
    def words(self) -> str:
        """Return what `--boxes` calls this convention."""
        return ",".join(word for word in (self.layout, self.unit, self.rows) if word)

    @property
    def meaning(self) -> str:
        """Return what the four numbers are, as a phrase."""
        return f"{_LAYOUTS[self.layout]} {_UNITS[self.unit]}"

    def difference_from(self, other: "BoxConvention") -> str:
        """Return the fewest words that turn `other` into this convention; at least one."""
        words = [
            mine
            for mine, theirs in ((self.layout, other.layout), (self.unit, other.unit))
            if mine != theirs
        ]
        return ",".join(words) or self.layout

    def changed(self, words: str) -> "BoxConvention":
        """Return this convention with what comma-separated `words`, such as "xyxy", change.

        Raises ConfigError for words that are unknown, contradict each other or are about longer
        rows in a format that has none.
        """
        chosen = self
        given = [word.strip() for word in words.split(",")]
        for word in given:
            kinds = {
                kind: get_args(values)
                for kind, values in (("layout", Layout), ("unit", Unit), ("rows", Rows))
            }
            kind = next((kind for kind, values in kinds.items() if word in values), None)
            if kind is None:
                known = [value for values in kinds.values() for value in values]
                raise ConfigError(f"--boxes {words}: unknown word {word!r}; {suggest(word, known)}")
            if sum(each in kinds[kind] for each in given) > 1:
                raise ConfigError(f"--boxes {words}: {' and '.join(given)} exclude each other")
            chosen = replace(chosen, **{kind: word})  # type: ignore[arg-type]
        return chosen

    def box_px(
        self, values: Sequence[float], size_px: tuple[int, int]
    ) -> tuple[float, float, float, float]:
        """Return one box as x, y, width, height in pixels; `size_px` is (height, width)."""
        a, b, c, d = values
        height, width = map(float, size_px)
        box_px: tuple[float, float, float, float] = self.in_pixels(a, b, c, d, width, height)
        return box_px

    def in_pixels(self, a: Any, b: Any, c: Any, d: Any, width: Any, height: Any) -> Any:
        """Return x, y, width, height in pixels of a box a, b, c, d in an image of this size.

        All may be numbers or columns of many boxes. The size of corners may be negative.
        """
        if self.layout == "yxyx":
            a, b, c, d = b, a, d, c
        if self.layout in ("xyxy", "yxyx"):
            c, d = c - a, d - b
        elif self.layout == "cxcywh":
            a, b = a - c / 2, b - d / 2
        x, y = self.scale_px(width, height)
        return a * x, b * y, c * x, d * y

    @property
    def whole(self) -> float:
        """Return what a coordinate on the far edge of the image is; infinite for pixels."""
        return _WHOLE.get(self.unit, float("inf"))

    def scale_px(self, width: Any, height: Any) -> tuple[Any, Any]:
        """Return how many pixels a unit of x and of y is in an image of this size."""
        if self.unit == "pixels":
            return 1, 1
        return width / self.whole, height / self.whole


XYWH_PX = BoxConvention("xywh", "pixels")
XYXY_PX = BoxConvention("xyxy", "pixels")
CXCYWH_RELATIVE = BoxConvention("cxcywh", "relative")


@dataclass(frozen=True)
class ConventionDoubt:
    """Why the boxes of a file are probably of another convention than they were read by.

    All are texts for the user: the words of `--boxes` for the likely and for the present reading,
    what the likely reading is, how many boxes speak for it, and one box read both ways; and the
    words for corners with y before x, as TensorFlow writes them, where these fit as well as others.
    """

    likely: str
    present: str
    meaning: str
    evidence: str
    example: str
    y_first: str = ""

    @property
    def advice(self) -> str:
        """Return what to do about it."""
        advice = f"read them with --boxes {self.likely}, or with --boxes {self.present} if not so"
        if not self.y_first:
            return advice
        return f"{advice}, or with --boxes {self.y_first} if y is before x, as in TensorFlow"

    def sentence(self, source: object) -> str:
        """Return all of it in one sentence, as an error says it."""
        return (
            f"{source}: the boxes are probably {self.meaning}: {self.evidence}; {self.example}; "
            f"{self.advice}"
        )
