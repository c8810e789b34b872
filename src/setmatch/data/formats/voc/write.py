"""Write Pascal VOC: Annotations/, JPEGImages/, ImageSets/Main/{split}.txt and classes.txt."""

from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from setmatch.data.dataset import DetectionDataset
from setmatch.data.formats.voc.xml import total
from setmatch.data.formats.writing import SplitToWrite, counted, distinct_names
from setmatch.errors import DataError


def write_voc(folder: Path, splits: Sequence[SplitToWrite]) -> list[str]:
    """Write an XML file for each image, with the exact edges of every box.

    Crowds are marked difficult, polygons are written as Roboflow does, and classes.txt keeps the
    order of the classes. Returns a sentence for each kind of thing that was lost. Raises DataError
    for class names that XML or a line of text cannot hold.
    """
    datasets = [split.dataset for split in splits]
    names = list(dict.fromkeys(name for each in datasets for name in each.categories.names if name))
    for name in names:
        if name != name.strip() or not name.isprintable():
            raise DataError(
                f"class {name!r}: VOC cannot hold this white space or control character; rename "
                "the class"
            )
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    (folder / "Annotations").mkdir()
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    run_lengths, taken = 0, set[str]()
    for split in splits:
        dataset = split.dataset
        files = distinct_names(dataset.file_names(), taken, flat=True)
        split.place_images(folder / "JPEGImages", files)
        stems = [Path(file).stem for file in files]
        for image, (file, stem) in enumerate(zip(files, stems, strict=True)):
            text = _xml(dataset, image, file)
            (folder / "Annotations" / f"{stem}.xml").write_text(text, encoding="utf-8")
            run_lengths += sum(_has_run_lengths(dataset, row) for row in dataset.rows(image))
        path = folder / "ImageSets" / "Main" / f"{split.name}.txt"
        path.write_text("".join(f"{stem}\n" for stem in stems), encoding="utf-8")
    return counted(run_lengths, "segmentations as run lengths", "left out, VOC has polygons only")


def _has_run_lengths(dataset: DetectionDataset, row: int) -> bool:
    return dataset.segmentations is not None and bool(dataset.segmentations.run_lengths(row))


def _xml(dataset: DetectionDataset, image: int, file: str) -> str:
    height, width = dataset.size_px(image)
    objects = "".join(_object(dataset, row) for row in dataset.rows(image))
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
