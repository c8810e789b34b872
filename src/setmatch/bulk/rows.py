"""The rows that bulk prediction gives: one for each detection, and one for an image without any.

Every image has a row, so that a result shows which images were seen. Nothing here needs torch.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from setmatch.data.images.unreadable import UnreadableError
from setmatch.errors import DataError, ExtraMissingError
from setmatch.structures.detection_arrays import DetectedBoxes

if TYPE_CHECKING:
    import pandas
    import pyarrow

Row = dict[str, Any]

# The type of each column by its name in Arrow. All columns but the path may be null.
COLUMNS = {
    "path": "string",  # as given; the number in its batch for pixels without a path
    "width_px": "int32",  # of the upright image; null if it cannot be read, as all but the error
    "height_px": "int32",
    "class": "string",  # null for an image without detections, as all below but the error
    "class_index": "int32",
    "score": "float32",
    "x0_px": "float32",  # of the box, in pixels of the upright image
    "y0_px": "float32",
    "x1_px": "float32",
    "y1_px": "float32",
    "mask": "string",  # counts of COCO's compressed RLE, whose size is (height_px, width_px)
    "error": "string",  # why the image cannot be read; null if it can
}
_SPARK_TYPES = {"string": "string", "int32": "int", "float32": "float"}
SPARK_SCHEMA = ", ".join(f"`{name}` {_SPARK_TYPES[kind]}" for name, kind in COLUMNS.items())


def detection_rows(
    path: str, size_px: tuple[int, int], detections: DetectedBoxes, masks: Sequence[str] | None
) -> list[Row]:
    """Return the rows of an image of `size_px` (height, width), by descending score.

    `masks` are the RLE counts of each detection, None without a mask head.
    """
    image = _row(path=path, width_px=size_px[1], height_px=size_px[0])
    boxes, scores, classes = (
        column.tolist() for column in (detections.xyxy_px, detections.scores, detections.classes)
    )
    names = [detections.categories.name(index) for index in classes]
    runs = [None] * len(names) if masks is None else masks
    found = zip(names, classes, scores, boxes, runs, strict=True)
    rows = [
        image
        | {"class": name, "class_index": index, "score": score}
        | dict(zip(("x0_px", "y0_px", "x1_px", "y1_px"), xyxy_px, strict=True))
        | {"mask": mask}
        for name, index, score, xyxy_px, mask in found
    ]
    return rows or [image]


def error_row(path: str, error: DataError) -> Row:
    """Return the row of an image that cannot be read."""
    reason = error.file.reason if isinstance(error, UnreadableError) else str(error)
    return _row(path=path, error=reason)


def to_table(rows: Sequence[Row]) -> "pyarrow.Table":
    """Return rows as a table of Arrow; raises ExtraMissingError without pyarrow."""
    pa = require_pyarrow()
    schema = pa.schema([(name, pa.type_for_alias(kind)) for name, kind in COLUMNS.items()])
    return pa.Table.from_pylist(list(rows), schema)


def to_frame(rows: Sequence[Row]) -> "pandas.DataFrame":
    """Return rows as a frame of pandas, with whole numbers also beside missing ones."""
    table = to_table(rows)
    import pandas

    whole = {require_pyarrow().int32(): pandas.Int32Dtype()}
    return table.to_pandas(types_mapper=whole.get)


def empty_frame() -> "pandas.DataFrame":
    """Return a frame without rows, whose columns and types are those of results (Dask's `meta`)."""
    return to_frame([])


def require_pyarrow() -> Any:
    """Return the module pyarrow; raises ExtraMissingError without it."""
    try:
        import pyarrow
    except ImportError:
        raise ExtraMissingError(
            "Parquet files and tables need pyarrow: pip install 'setmatch[bulk]'"
        ) from None
    return pyarrow


def _row(**values: Any) -> Row:
    # A name of a file may have bytes that are not UTF-8; Arrow takes no such text.
    texts = {key: _encodable(value) for key, value in values.items()}
    return dict.fromkeys(COLUMNS) | texts


def _encodable(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return value.encode("utf-8", "backslashreplace").decode("utf-8")
