"""Write an image file, whole or not at all."""

from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from setmatch.files.writing import atomic_file


def write_image(
    path: Path, image: Image.Image, form: str, *, durable: bool = True, **options: Any
) -> None:
    """Write an image to `path` in a `form` of Pillow, with its options.

    Raises OSError if the disk is full: Pillow, given a path, does not notice that a full disk took
    only a part of a JPEG file. `durable` is that of `atomic_file`.
    """
    encoded = BytesIO()
    image.save(encoded, form, **options)
    with atomic_file(path, durable) as aside:
        aside.write_bytes(encoded.getvalue())
