"""Pascal VOC data sets of small images, written as texts."""

from pathlib import Path

from PIL import Image

from setmatch.data.dataset import DetectionDataset
from setmatch.data.open import open_dataset

SIZE = "<size><width>60</width><height>40</height><depth>3</depth></size>"
DOG = (
    "<object>\n<name>dog</name><bndbox><xmin>6</xmin><ymin>4</ymin><xmax>36</xmax><ymax>24</ymax>"
    "</bndbox></object>\n"
)


def xml(*objects: str, size: str = SIZE, head: str = "", filename: str = "a.png") -> str:
    name = f"<filename>{filename}</filename>\n"
    return f"{head}<annotation>\n{name}{size}\n{''.join(objects)}</annotation>\n"


def box(*corners: object, name: str = "dog", more: str = "") -> str:
    sides = zip(("xmin", "ymin", "xmax", "ymax"), corners)
    inner = "".join(f"<{side}>{value}</{side}>" for side, value in sides)
    return f"<object><name>{name}</name>{more}<bndbox>{inner}</bndbox></object>\n"


def write(root: Path, files: dict[str, str | bytes]) -> Path:
    """Write texts, and images of 60 × 40 for names that end in png or jpg."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix.lower() in (".png", ".jpg"):
            Image.new("RGB", (60, 40)).save(path)
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def one(root: Path, text: str | bytes) -> DetectionDataset:
    """Open a data set of one image, a.png."""
    return open_dataset(write(root, {"Annotations/a.xml": text, "images/a.png": ""}), "train")
