"""Write Pascal VOC: Annotations/, JPEGImages/, ImageSets/Main/{split}.txt and classes.txt."""

from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from setmatch.data.dataset import DetectionDataset
from setmatch.data.formats.voc.xml import total
from setmatch.data.formats.writing import SplitToWrite, counted
from setmatch.errors import DataError


def write_voc(folder: Path, splits: Sequence[SplitToWrite]) -> list[str]:
    """Write one XML file for each image, with the boxes' edges as exact as they are.

    Crowds are marked difficult, polygons written as Roboflow does, and classes.txt keeps the order
    of the classes. Returns in sentences what was not kept. Raises DataError for class names that
    XML or a line cannot hold.
    """
    names = list(dict.fromkeys(name for s in splits for name in s.dataset.categories.names if name))
    for name in names:
        if name != name.strip() or not name.isprintable():
            raise DataError(f"class {name!r}: VOC cannot hold such white space; rename the class")
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    (folder / "Annotations").mkdir()
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    runs = 0
    for split in splits:
        stems = []
        for image, file, rows in split:
            stem = Path(file).stem
            stems.append(f"{stem}\n")
            text = _xml(split.dataset, image, file, rows)
            (folder / "Annotations" / f"{stem}.xml").write_text(text, encoding="utf-8")
            segmentations = split.dataset.segmentations
            runs += (
                0
                if segmentations is None
                else sum(bool(segmentations.run_lengths(row)) for row in rows)
            )
        path = folder / "ImageSets" / "Main" / f"{split.name}.txt"
        path.write_text("".join(stems), encoding="utf-8")
    return counted(runs, "segmentations as run lengths", "left out, VOC has polygons only")


def _xml(dataset: DetectionDataset, image: int, file: str, rows: range) -> str:
    height, width = dataset.size_px(image)
    objects = "".join(_object(dataset, row) for row in rows)
    return (
        "<annotation>\n"
        "  <folder>JPEGImages</folder>\n"
        f"  <filename>{escape(file)}</filename>\n"
        f"  <size><width>{width}</width><height>{height}</height><depth>3</depth></size>\n"
        f"{objects}</annotation>\n"
    )


def _object(dataset: DetectionDataset, row: int) -> str:
    x, y, w, h = dataset.xywh_px[row].tolist()
    sides = {"xmin": total(x, 0.0), "ymin": total(y, 0.0), "xmax": total(x, w), "ymax": total(y, h)}
    box = "".join(f"<{side}>{text}</{side}>" for side, text in sides.items())
    rings = [] if dataset.segmentations is None else dataset.segmentations.rings(row)
    polygons = "".join(
        "    <polygon>"
        + "".join(
            f"<x{number}>{x}</x{number}><y{number}>{y}</y{number}>"
            for number, (x, y) in enumerate(ring, start=1)
        )
        + "</polygon>\n"
        for ring in rings
    )
    return (
        "  <object>\n"
        f"    <name>{escape(dataset.categories.names[dataset.class_indices[row]] or '')}</name>\n"
        f"    <difficult>{int(dataset.crowd[row])}</difficult>\n"
        f"    <bndbox>{box}</bndbox>\n"
        f"{polygons}"
        "  </object>\n"
    )
