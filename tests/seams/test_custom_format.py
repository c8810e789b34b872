"""A format from outside the package: a CSV file per split, lines image,class,x,y,width,height."""

import csv
from pathlib import Path

import numpy as np
import pytest

from setmatch import Categories
from setmatch import data as smd
from setmatch.data.audit.audit import audit


def find(path: Path):
    return {
        file.stem: smd.SplitSource("csv", file.stem, file, (file,)) for file in path.glob("*.csv")
    }


def read(split: smd.SplitSource):
    lines, folder = list(csv.reader(split.source.open())), split.source.parent / split.split
    files, classes = sorted(p.name for p in folder.iterdir()), sorted({line[1] for line in lines})
    categories = Categories(tuple(range(len(classes))), tuple(classes))
    annotations = smd.AnnotationBuffer()
    for number, (file, name, *xywh) in enumerate(lines, start=1):
        annotations.add(files.index(file), classes.index(name), tuple(map(float, xywh)), number)
    sizes_px = np.array([smd.read_size_px(folder / file) for file in files], dtype=np.int32)
    images = smd.ImageTable(folder, np.arange(len(files)), files, sizes_px)
    return smd.assemble(split.source, images, categories, annotations.rows())


def write(folder: Path, splits):
    for split in splits:
        data = split.dataset
        split.place_images(folder / split.name, data.file_names())
        with (folder / f"{split.name}.csv").open("w") as file:
            for image, row in ((i, row) for i in range(len(data)) for row in data.rows(i)):
                name = data.categories.names[data.class_indices[row]]
                csv.writer(file).writerow([data.name(image), name, *data.xywh_px[row].tolist()])
    return []


@pytest.fixture(autouse=True)
def csv_format():
    smd.FORMATS.append(smd.DatasetFormat("csv", "CSV (train.csv, val.csv)", find, read, write))
    yield
    smd.FORMATS.pop()


def test_a_custom_format_is_opened_audited_and_converted_to_and_from(tmp_path: Path):
    smd.write_scenes(tmp_path / "coco", 8, 4, 64, seed=0, workers=0)
    smd.convert_dataset(tmp_path / "coco", tmp_path / "csv", "csv")
    smd.convert_dataset(tmp_path / "csv", tmp_path / "back", "coco")
    assert set(audit(tmp_path / "csv", has_gpu=False).splits) == {"train", "val"}
    boxes = [smd.open_dataset(tmp_path / name, "val").xywh_px for name in ("coco", "csv", "back")]
    assert boxes[0].tolist() == boxes[1].tolist() == boxes[2].tolist()
