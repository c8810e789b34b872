"""`setmatch convert-data`: write a data set in another format."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from setmatch.cli.options import Format, Switch
from setmatch.data.formats.registry import writable_formats


def convert_data(
    source: Path,
    destination: Path,
    /,
    *,
    to: Annotated[str, Parameter(help=f"The format to write: {', '.join(writable_formats())}.")],
    split: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    format: Format = None,
    link: Switch = False,
) -> None:
    """Write a data set in another format; boxes stay what they are.

    Parameters
    ----------
    source
        Folder or annotation file of a data set.
    destination
        Folder to write; new or empty.
    split
        Only this split. May be repeated.
    link
        Link to the images instead of copying them.
    """
    from setmatch.data.convert import convert_dataset

    done = convert_dataset(source, destination, to, split, format, link)
    for name, images in done.images.items():
        print(f"{name}: {images} images, {done.annotations[name]} annotations")
    for note in done.notes:
        print(note)
    images_are = "linked" if link else "copied"
    print(f"written to {done.folder}, images {images_are}")
