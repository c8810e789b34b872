"""Pascal VOC: usual folders are read, and bad input raises only DataError."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from setmatch.data.formats.voc.xml import difference, parse_voc, total
from setmatch.data.open import open_dataset, open_splits
from setmatch.errors import DataError
from small_voc import DOG, box, one, write, xml

LAYOUTS = {
    "ImageSets": {
        "Annotations/a.xml": xml(DOG),
        "Annotations/b.xml": xml(filename="b.png"),
        "JPEGImages/a.png": "",
        "JPEGImages/b.png": "",
        "ImageSets/Main/train.txt": "a\n",
        "ImageSets/Main/val.txt": "b\n",
        "ImageSets/Main/dog_train.txt": "b 1\n",
    },
    "a devkit": {
        "VOCdevkit/VOC2012/Annotations/a.xml": xml(DOG),
        "VOCdevkit/VOC2012/Annotations/b.xml": xml(filename="b.png"),
        "VOCdevkit/VOC2012/JPEGImages/a.png": "",
        "VOCdevkit/VOC2012/JPEGImages/b.png": "",
        "VOCdevkit/VOC2012/ImageSets/Main/train.txt": "a 1\nb -1\n",
        "VOCdevkit/VOC2012/ImageSets/Main/val.txt": "b\r\n",
    },
    "XML beside images": {
        "train/a.xml": xml(DOG),
        "train/a.png": "",
        "valid/b.xml": xml(filename="b.png"),
        "valid/b.png": "",
    },
    "folders in split folders": {
        "train/Annotations/a.xml": xml(DOG),
        "train/JPEGImages/a.png": "",
        "val/annotations/b.xml": xml(filename="b.png"),
        "val/images/b.png": "",
    },
    "XML beside images in images": {
        "images/train/a.xml": xml(DOG),
        "images/train/a.png": "",
        "images/train_labels.csv": "filename,class\n",
        "images/val/b.xml": xml(filename="b.png"),
        "images/val/b.png": "",
    },
    "split folders in folders": {
        "annotations/train/a.xml": xml(DOG),
        "images/train/a.png": "",
        "annotations/validation/b.xml": xml(filename="b.png"),
        "images/validation/b.png": "",
    },
}


@pytest.mark.parametrize("files", LAYOUTS.values(), ids=LAYOUTS)
def test_usual_layouts_are_read(tmp_path: Path, files: dict[str, str]):
    """Each split knows the classes of both."""
    write(tmp_path, files)
    train, val = open_dataset(tmp_path, "train"), open_dataset(tmp_path, "val")
    assert [dataset.name(0) for dataset in (train, val)] == ["a.png", "b.png"]
    assert len(train) == len(val) == 1
    assert train.categories.names == val.categories.names == ("dog",)
    assert train.xywh_px.tolist() == [[6, 4, 30, 20]]
    assert train.fixes == val.fixes == ()
    assert train.path(0).is_file()


def test_classes_txt_gives_the_order_of_classes(tmp_path: Path):
    """A class that it lacks goes to the end and is reported."""
    write(tmp_path, {"classes.txt": "zebra\ndog\n"})
    dataset = one(tmp_path, xml(DOG, box(0, 0, 9, 9, name="ant")))
    assert dataset.categories.names == ("zebra", "dog", "ant")
    assert dataset.class_indices.tolist() == [1, 2]
    assert [fix.description for fix in dataset.fixes] == ["classes not listed: added at the end"]


def test_a_part_of_an_object_is_not_the_object(tmp_path: Path):
    """VOC's person layout has boxes of heads and hands."""
    part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
    dataset = one(tmp_path, xml(box(6, 4, 36, 24, name="person", more=part)))
    assert dataset.categories.names == ("person",)
    assert dataset.xywh_px.tolist() == [[6, 4, 30, 20]]


def test_listed_names_without_files_are_refused(tmp_path: Path):
    write(tmp_path, {"Annotations/a.xml": xml(DOG), "ImageSets/Main/train.txt": "a\nq\n"})
    with pytest.raises(DataError, match=r"train\.txt: 1 of its 2 names have no XML file .*: q"):
        open_dataset(tmp_path, "train")
    write(tmp_path, {"ImageSets/Main/train.txt": "a\n"})
    with pytest.raises(DataError, match=r"1 of 1 image files are missing: a\.png of a\.xml"):
        open_dataset(tmp_path, "train")


@pytest.mark.crossed
@pytest.mark.parametrize("flag", ["", " 1", "  1", " 0"])
@pytest.mark.parametrize(
    "listed",
    ["a", "a.png", "a.PNG", "a.xml", "JPEGImages/a.png", "/x/y/a.jpg", r"D:\x\a.bmp", "train/a"],
)
def test_lists_may_name_images_or_files_in_folders(tmp_path: Path, listed: str, flag: str):
    write(tmp_path, {"Annotations/a.xml": xml(DOG), "JPEGImages/a.png": ""})
    write(tmp_path, {"ImageSets/Main/train.txt": f"{listed}{flag}\n"})
    assert open_dataset(tmp_path, "train").file_names() == ["a.png"]


def test_a_listed_name_with_a_point_is_no_suffix(tmp_path: Path):
    write(tmp_path, {"Annotations/a.b.xml": xml(DOG), "JPEGImages/a.b.png": ""})
    write(tmp_path, {"ImageSets/Main/train.txt": "a.b\n"})
    assert open_dataset(tmp_path, "train").file_names() == ["a.b.png"]


@pytest.mark.parametrize("listed", ["", "\n\n", "a -1\n", "a -1\r\nb  -1\r\n"])
def test_an_empty_list_is_an_error_of_its_split_alone(tmp_path: Path, listed: str):
    write(tmp_path, {"Annotations/a.xml": xml(DOG), "JPEGImages/a.png": ""})
    write(tmp_path, {"ImageSets/Main/train.txt": "a\n", "ImageSets/Main/val.txt": listed})
    opened = open_splits(tmp_path)
    assert list(opened.datasets) == ["train"]
    assert "val.txt: no XML file for this split" in str(opened.errors["val"])


def test_images_without_xml_are_left_out_and_reported(tmp_path: Path):
    """They may not be empty."""
    write(tmp_path, {"images/b.png": "", "images/c.png": ""})
    dataset = one(tmp_path, xml(DOG))
    assert len(dataset) == 1
    assert [(r.file, r.description.split(":")[0]) for r in dataset.fixes] == [
        ("b.png", "without an XML file"),
        ("c.png", "without an XML file"),
    ]


def test_an_image_is_found_by_filename_if_the_xml_has_another_name(tmp_path: Path):
    """An image with the XML file's own name comes first."""
    dataset = one(tmp_path, xml(DOG))
    (tmp_path / "images/a.png").rename(tmp_path / "images/photo.png")
    dataset = one_without_image(tmp_path, xml(DOG, filename="photo.png"))
    assert dataset.name(0) == "photo.png"
    assert "found by its <filename>" in dataset.fixes[-1].description


def one_without_image(root: Path, text: str):
    (root / "Annotations/a.xml").write_text(text)
    return open_dataset(root, "train")


def test_a_devkit_of_several_years_is_refused(tmp_path: Path):
    write(tmp_path, {f"VOC20{year}/Annotations/a.xml": xml(DOG) for year in ("07", "12")})
    with pytest.raises(DataError, match=r"several data sets \(VOC2007, VOC2012\)"):
        open_dataset(tmp_path, "train")


FLOATS = st.floats(-1e6, 1e6) | st.floats(allow_nan=False, allow_infinity=False)


@given(FLOATS, st.floats(0, 1e6) | st.floats(0, allow_nan=False, allow_infinity=False))
def test_written_edges_give_back_the_exact_width(low: float, extent: float):
    assert difference(total(low, extent), total(low, 0.0)) == extent
    assert float(total(low, 0.0)) == low


TAGS = st.sampled_from(
    [
        *("annotation", "object", "name", "bndbox", "xmin", "ymin", "xmax", "ymax", "size"),
        *("width", "height", "filename", "difficult", "polygon", "x1", "y1"),
    ]
)
TEXTS = st.sampled_from(
    ["", "1", "-5", "1e400", "nan", "x", "&amp;", "&lol;", "<", "\x00", "9" * 50]
)
XML = st.recursive(
    TEXTS | st.text(max_size=3),
    lambda inner: st.tuples(TAGS, st.lists(inner, max_size=4)).map(
        lambda node: f"<{node[0]}>{''.join(node[1])}</{node[0]}>"
    ),
    max_leaves=12,
)


@given(st.lists(XML, max_size=4), st.integers(0, 400), st.binary(max_size=3))
def test_any_xml_opens_or_raises_a_data_error(tmp_path_factory, nodes, cut, noise):
    """Files that open have targets inside their images."""
    root = tmp_path_factory.getbasetemp() / "voc"
    text = xml(DOG, *nodes).encode("utf-8", "surrogatepass")
    try:
        dataset = one(root, text[:cut] + noise + text[cut:] if noise else text)
    except DataError:
        return
    cxcywh = dataset.target(0).cxcywh
    assert ((cxcywh >= 0) & (cxcywh <= 1)).all()
    assert np.isfinite(dataset.xywh_px).all()


@pytest.mark.promise(11, cases=10_000)
@pytest.mark.campaign
@pytest.mark.timeout(3600)
@settings(max_examples=10_000)
@given(st.lists(XML, max_size=4), st.integers(0, 400), st.binary(max_size=3))
def test_any_of_ten_thousand_xmls_opens_or_raises_a_data_error(tmp_path_factory, nodes, cut, noise):
    test_any_xml_opens_or_raises_a_data_error.hypothesis.inner_test(
        tmp_path_factory, nodes, cut, noise
    )


def test_the_line_of_an_object_is_its_first(tmp_path: Path):
    (tmp_path / "a.xml").write_text(xml(DOG, "\n\n", DOG))
    assert [each.line for each in parse_voc(tmp_path / "a.xml").objects] == [4, 8]
