"""Parse one Pascal VOC annotation file into plain values, with the line of each object.

The parser is expat, event by event. A DOCTYPE is refused, and every entity with it: VOC needs none,
and a few lines of nested entities can fill the memory.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal, localcontext
from pathlib import Path
from xml.parsers import expat

from setmatch.data.annotations.rotations import TURNING
from setmatch.data.formats.class_names import clean_name
from setmatch.data.formats.voc.encoding import to_utf8
from setmatch.errors import DataError
from setmatch.files.reading import read_bytes

SIDES = ("xmin", "ymin", "xmax", "ymax")
# Sides that some tools write instead, in each object: all in pixels, from the left top.
SIZED_SIDES = (
    ("xmin", "ymin", "width", "height"),
    ("xmin", "ymin", "w", "h"),
    ("x", "y", "width", "height"),
    ("x", "y", "w", "h"),
    ("left", "top", "width", "height"),
)
TURNED_SIDES = ("cx", "cy", "w", "h", "angle")  # of a <robndbox>, as roLabelImg writes it; radians
_MAX_DEPTH = 100  # of elements; VOC has five
Polygon = dict[str, str]  # x1, y1, x2, ..., as Roboflow writes them
_BOX_SIDES = frozenset(SIDES).union(*SIZED_SIDES)
_POINTS = ("pt", "point")  # of a polygon, with an x and a y in each, as LabelMe writes them


@dataclass
class VocObject:
    """An object as in the file: unchecked text."""

    line: int
    values: dict[str, str] = field(default_factory=dict)  # name, difficult, deleted
    box: dict[str, str] = field(default_factory=dict)
    turned_box: dict[str, str] = field(default_factory=dict)
    polygons: list[Polygon] = field(default_factory=list)
    attributes: dict[str, str] = field(default_factory=dict)  # such as rotation, as CVAT writes it

    @property
    def sized_sides(self) -> tuple[str, ...] | None:
        """Return the names of x, y, width and height, if the box has these and no other sides."""
        return next((sides for sides in SIZED_SIDES if set(sides) == self.box.keys()), None)

    @property
    def is_turned(self) -> bool:
        """True if the object has a <robndbox> alone."""
        return bool(self.turned_box) and not self.box

    @property
    def is_polygon(self) -> bool:
        """True if the object has polygons alone."""
        return bool(self.polygons) and not self.box and not self.turned_box

    @property
    def is_deleted(self) -> bool:
        """True for what an annotator removed: LabelMe keeps it in the file, marked."""
        return self.values.get("deleted", "0").lower() in ("1", "true", "yes")

    @property
    def rotation(self) -> tuple[str, float]:
        """Return the attribute that turns the box and its degrees; 0 where nothing is readable."""
        small = {name.lower(): text for name, text in self.attributes.items()}
        name = next((name for name in TURNING if name in small), TURNING[0])
        try:
            degrees = float(small.get(name, ""))
        except ValueError:
            return name, 0.0
        return name, degrees if math.isfinite(degrees) else 0.0


@dataclass
class VocFile:
    """An annotation file; `values` are its filename, folder, path, width, height, source."""

    path: Path
    values: dict[str, str] = field(default_factory=dict)
    objects: list[VocObject] = field(default_factory=list)

    @property
    def counts_from_one(self) -> bool:
        """True for the challenge's own files, whose boxes are the first and the last pixel.

        They count pixels from 1 (VOC2007 development kit, section "Annotation"). Today's tools
        write edges, counted from 0.
        """
        return self.values.get("source", "").upper().startswith("PASCAL VOC")


def parse_voc(path: Path) -> VocFile:
    """Parse an annotation file; raises DataError with file and line for anything but VOC XML."""
    file = VocFile(path)
    parser = expat.ParserCreate("utf-8")
    events = _Events(file, parser)
    parser.StartElementHandler = events.start
    parser.EndElementHandler = events.end
    parser.CharacterDataHandler = events.text
    parser.StartDoctypeDeclHandler = events.doctype
    try:
        parser.Parse(to_utf8(read_bytes(path)), True)
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{path}: cannot be read ({reason}); replace or remove the file") from None
    except ValueError as error:
        raise DataError(f"{path}: not valid XML: {error}") from None
    except expat.ExpatError as error:
        raise DataError(
            f"{path}: not valid XML, perhaps cut short ({error}); export it again or remove it"
        ) from None
    return file


class _Events:
    """Handles the events of expat by filling a VocFile."""

    def __init__(self, file: VocFile, parser: expat.XMLParserType) -> None:
        self._file = file
        self._parser = parser
        self._tags: list[str] = []
        self._texts: list[str] = []
        self._attribute: dict[str, str] = {}

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if not self._tags and tag != "annotation":
            advice = "; CVAT's own XML is not read: export as COCO there" * (tag == "annotations")
            raise DataError(
                f"{self._file.path}: holds a <{tag}>; it should be VOC's <annotation>{advice}"
            )
        self._tags.append(tag)
        if len(self._tags) > _MAX_DEPTH:
            raise DataError(
                f"{self._file.path}:{self._parser.CurrentLineNumber}: nested more than "
                f"{_MAX_DEPTH} elements deep, which no VOC file is; export it again or remove it"
            )
        self._texts.clear()
        if self._tags[1:] == ["object"]:
            self._file.objects.append(VocObject(self._parser.CurrentLineNumber))
        elif self._tags[1:] == ["object", "polygon"]:
            self._file.objects[-1].polygons.append({})

    def text(self, text: str) -> None:
        self._texts.append(text)

    def end(self, tag: str) -> None:
        # Matched by the whole path: a <part> of an object has a name and a box of its own.
        text = "".join(self._texts).strip()
        match self._tags[1:]:
            case ["filename" | "folder" | "path"] | ["size", "width" | "height"]:
                self._file.values[tag] = text
            case ["source", "annotation"]:
                self._file.values["source"] = text
            case ["object", "rotation" | "angle"]:
                self._file.objects[-1].attributes.setdefault(tag, text)
            case ["object", "name" | "difficult" | "deleted"]:
                cleaned = clean_name(text) if tag == "name" else text
                self._set(self._file.objects[-1].values, tag, cleaned)
            case ["object", "bndbox", side] if side.lower() in _BOX_SIDES:
                self._set(self._file.objects[-1].box, side.lower(), text)
            case ["object", "robndbox", side] if side in TURNED_SIDES:
                self._set(self._file.objects[-1].turned_box, side, text)
            case ["object", "attributes", "attribute", "name" | "value"]:
                self._attribute[tag] = text
            case ["object", "attributes", "attribute"]:
                name, value = (self._attribute.pop(key, "") for key in ("name", "value"))
                self._file.objects[-1].attributes[name] = value
            case ["object", "polygon", point, "x" | "y"] if point in _POINTS:
                polygon = self._file.objects[-1].polygons[-1]
                polygon[f"{tag}{sum(key.startswith(tag) for key in polygon) + 1}"] = text
            case ["object", "polygon", _] if tag not in (*_POINTS, "username"):
                self._file.objects[-1].polygons[-1][tag] = text
        self._tags.pop()
        self._texts.clear()

    def _set(self, values: dict[str, str], tag: str, text: str) -> None:
        """Set a value of an object; raise DataError where it is set twice."""
        if tag in values:
            place = f"{self._file.path}:{self._file.objects[-1].line}"
            both = f"{values[tag][:40]!r} and {text[:40]!r}"
            raise DataError(f"{place}: an object has <{tag}> twice, {both}; keep one")
        values[tag] = text

    def doctype(self, name: str, system: str | None, public: str | None, internal: int) -> None:
        line = self._parser.CurrentLineNumber
        raise DataError(
            f"{self._file.path}:{line}: declares a DOCTYPE, which can hold entities; remove it"
        )


def number(text: str, error: Callable[[], DataError]) -> float:
    """Return a number as Python reads it, NaN and infinity too; raises `error()` for other text."""
    try:
        if "_" in text:
            raise ValueError
        return float(text)
    except ValueError:
        raise error() from None


def difference(high: str, low: str) -> float:
    """Return high - low, rounded only once: 0.3 - 0.1 is 0.2."""
    if high.isdigit() and low.isdigit() and len(high) < 16 and len(low) < 16:
        return float(int(high) - int(low))
    with localcontext(prec=1000):
        exact = Decimal(high), Decimal(low)
        if all(value.is_finite() and abs(value.adjusted()) < 400 for value in exact):
            return float(exact[0] - exact[1])
    return float(high) - float(low)


def total(low: float, extent: float) -> str:
    """Return low + extent as text from which `difference` recovers `extent` to the last bit."""
    with localcontext(prec=1000):
        exact = Decimal(repr(low)) + Decimal(repr(extent))
        return f"{exact:.0f}" if exact == exact.to_integral_value() else f"{exact:f}"
