"""`setmatch convert-data`: convert a data set to another format."""

from collections import Counter
from pathlib import Path
from typing import Annotated

from setmatch.cli.options import Boxes, Format, Repeatable, Switch


def convert_data(
    source: Path,
    destination: Path,
    /,
    *,
    to: str,
    split: Annotated[tuple[str, ...], Repeatable] = (),
    format: Format = None,
    boxes: Boxes = None,
    link: Switch = False,
    images: Path | None = None,
) -> None:
    """Convert a data set to COCO, YOLO or Pascal VOC; boxes keep their coordinates.

    For example:

        setmatch convert-data yolo_data/ coco_data/ --to coco
        setmatch convert-data coco_with_corners/ coco_data/ --to coco --boxes xyxy

    The source is not changed.

    Parameters
    ----------
    source
        Data set to read: a folder, a YOLO data.yaml, or a COCO JSON file.
    destination
        Folder to write; it must be new or empty.
    to
        Format to write: coco, yolo or voc.
    split
        Convert only this split. Repeatable. Defaults to all.
    link
        Link to the images instead of copying them.
    images
        Folder of the image files, if several folders have files of the annotated names.
    """
    from setmatch.data.convert import convert_dataset

    conversion = convert_dataset(source, destination, to, split, format, link, boxes, images)
    for name, images_read in conversion.images.items():
        print(f"{name}: {images_read} images, {conversion.annotations[name]} annotations")
    for fix, count in Counter(fix.description for fix in conversion.fixes).items():
        print(f"fixed: {count} × {fix}")
    for note in conversion.notes:
        print(note)
    print(f"written to {conversion.folder}, images {'linked' if link else 'copied'}")
