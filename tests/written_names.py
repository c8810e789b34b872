"""Ways to write the path of an image on another machine, and folders to put the images into."""

import unicodedata
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from urllib.parse import quote

from PIL import Image

Written = Callable[[str, str], str]  # folder below the root, file name -> path as written

# The first two are no repair where the folder is a usual one.
WRITTEN: dict[str, Written] = {
    "bare": lambda folder, name: name,
    "below the root": lambda folder, name: f"{folder}/{name}",
    "backslashes": lambda folder, name: f"{folder}/{name}".replace("/", "\\"),
    "mixed slashes": lambda folder, name: f"x\\{folder}/{name}",
    "parents": lambda folder, name: f"../../other/{name}",
    "parents by Windows": lambda folder, name: f"..\\..\\media\\upload\\4\\{name}",
    "absolute": lambda folder, name: f"/mnt/ann/project/{folder}/{name}",
    "drive": lambda folder, name: f"C:\\Users\\ann\\{folder}\\{name}",
    "drive with slashes": lambda folder, name: f"d:/{folder}/{name}",
    "share": lambda folder, name: f"\\\\server\\share\\{name}",
    "doubled slashes": lambda folder, name: f"/mnt//disk//{name}",
    "URL": lambda folder, name: f"https://host:80/{folder}/{quote(name)}?token=a/b.png#x",
    "bucket": lambda folder, name: f"s3://bucket/{folder}/{name}",
    "file URL": lambda folder, name: "file" + f":///D:/set/{quote(name)}",
    "Label Studio": lambda folder, name: f"/data/local-files/?d={quote(f'{folder}/{name}')}",
    "percent": lambda folder, name: quote(f"{folder}/{name}"),
    "blanks": lambda folder, name: f" {name} ",
    "capitals": lambda folder, name: f"{folder}/{name}".upper(),
    "decomposed": lambda folder, name: unicodedata.normalize("NFD", name),
    "no suffix": lambda folder, name: name.rpartition(".")[0],
}
NAMES = ("café p0.png", "café p1.png", "café p2.png")


def image_bytes(number: int) -> bytes:
    """Return a PNG of 60 × 40 with a color of its own."""
    file = BytesIO()
    Image.new("RGB", (60, 40), (20 * number, 9, 9)).save(file, "PNG")
    return file.getvalue()


CONTENT = {name: image_bytes(number) for number, name in enumerate(NAMES)}
DRAWN = image_bytes(12)  # a preview, with boxes drawn on it


def write_images(folder: Path, names: tuple[str, ...] = NAMES) -> None:
    """Write images into a folder, each with its own pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(CONTENT[name])


def write_previews(folder: Path, names: tuple[str, ...] = NAMES) -> None:
    """Write other images of the same names."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(DRAWN)
