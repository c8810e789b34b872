"""Pascal VOC: usual folders are read, oddities are mended by name or refused with their line."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from setmatch.data.formats.voc_xml import difference, parse_voc, total
from setmatch.data.opening import open_dataset
from setmatch.errors import DataError

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
    """Write texts, and pictures of 60 × 40 for names that end in png or jpg."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix.lower() in (".png", ".jpg"):
            Image.new("RGB", (60, 40)).save(path)
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def one(root: Path, text: str | bytes):
    return open_dataset(write(root, {"Annotations/a.xml": text, "images/a.png": ""}), "train")


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
    """Both splits know the class of both, and the boxes are edges."""
    write(tmp_path, files)
    train, val = open_dataset(tmp_path, "train"), open_dataset(tmp_path, "val")
    assert [index.name(0) for index in (train, val)] == ["a.png", "b.png"]
    assert len(train) == len(val) == 1
    assert train.categories.names == val.categories.names == ("dog",)
    assert train.xywh_px.tolist() == [[6, 4, 30, 20]]
    assert train.repairs == val.repairs == ()
    assert train.path(0).is_file()


def test_a_list_of_classes_gives_their_order(tmp_path: Path):
    """classes.txt decides; a class that it lacks goes to the end and is noted."""
    write(tmp_path, {"classes.txt": "zebra\ndog\n"})
    index = one(tmp_path, xml(DOG, box(0, 0, 9, 9, name="ant")))
    assert index.categories.names == ("zebra", "dog", "ant")
    assert index.slots.tolist() == [1, 2]
    assert [repair.done for repair in index.repairs] == ["classes not listed: added at the end"]


def test_a_part_of_an_object_is_not_the_object(tmp_path: Path):
    """The boxes of heads and hands in VOC's person layout are left alone."""
    part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
    index = one(tmp_path, xml(box(6, 4, 36, 24, name="person", more=part)))
    assert index.categories.names == ("person",)
    assert index.xywh_px.tolist() == [[6, 4, 30, 20]]


REPAIRED = {
    "swapped corners": (xml(box(36, 24, 6, 4)), "corners swapped", 4),
    "one side swapped": (xml(box(36, 4, 6, 24)), "corners swapped", 4),
    "zero width": (xml(box(6, 4, 6, 24)), "without area", 4),
    "outside": (xml(box(70, 4, 90, 24)), "outside the image", 4),
    "over the edge": (xml(box(6, 4, 90, 24)), "passes the image's edge", 4),
    "negative": (xml(box(-9, 4, 30, 24)), "passes the image's edge", 4),
    "not a number": (xml(DOG, box("nan", 4, 30, 24)), "not finite: left out", 6),
    "infinite": (xml(DOG, box(0, 4, "inf", 24)), "not finite: left out", 6),
    "twice": (xml(DOG, DOG), "same box and class again", 6),
    "difficult": (xml(box(6, 4, 36, 24, more="<difficult>1</difficult>")), "as crowds", None),
    "odd difficult": (xml(box(6, 4, 36, 24, more="<difficult>x</difficult>")), "read as 0", 4),
    "no size": (xml(DOG, size=""), "size read from the image", None),
    "zero size": (xml(DOG, size=SIZE.replace("60", "0")), "size read from the image", None),
    "size as text": (xml(DOG, size=SIZE.replace("60", "wide")), "size read from", None),
    "swapped size": (
        xml(DOG, size="<size><width>40</width><height>60</height></size>"),
        "size read from",
        None,
    ),
    "short polygon": (
        xml(box(6, 4, 36, 24, more="<polygon><x1>1</x1><y1>2</y1></polygon>")),
        "polygon without",
        4,
    ),
    "polygon of words": (
        xml(box(6, 4, 36, 24, more="<polygon><x1>a</x1><y1>b</y1></polygon>")),
        "polygon without",
        4,
    ),
    "other filename": (
        xml(DOG, filename="../elsewhere/z.png"),
        "<filename> of another image: the XML's own name counts",
        None,
    ),
    "no filename": (xml(DOG, filename=""), None, None),
    "fractions": (xml(box("6.0", " 4.0 ", "36", "24.")), None, None),
    "Latin-1": (
        xml(DOG, head='<?xml version="1.0" encoding="latin-1"?>\n').encode("latin-1"),
        None,
        None,
    ),
    "UTF-16": (xml(DOG).encode("utf-16"), None, None),
    "byte order mark": (b"\xef\xbb\xbf" + xml(DOG).encode(), None, None),
    "CDATA": (xml(DOG.replace("dog", "<![CDATA[dog]]>")), None, None),
    "escaped characters": (xml(DOG.replace("dog", "d&#111;g")), None, None),
    "comments": (xml("<!-- nothing -->", DOG), None, None),
    "unknown elements": (xml("<owner><name>me</name></owner>", DOG), None, None),
}


@pytest.mark.parametrize(("text", "done", "line"), REPAIRED.values(), ids=REPAIRED)
def test_harmless_oddities_are_read_or_mended_by_name(tmp_path: Path, text, done, line):
    """What was done is listed with file and line; where nothing was odd, nothing is listed."""
    index = one(tmp_path, text)
    assert index.categories.names == ("dog",)
    assert index.sizes_px.tolist() == [[40, 60]]
    if done is None:
        assert index.repairs == ()
        assert index.xywh_px.tolist() == [[6, 4, 30, 20]]
        return
    (repair,) = index.repairs
    assert done in repair.done
    assert repair.line == line
    assert repair.file == ("a.xml" if line or "size" in done or "<filename>" in done else "")
    cxcywh = index.target(0).cxcywh
    assert ((cxcywh >= 0) & (cxcywh <= 1)).all()


ENTITY = '<!DOCTYPE a [<!ENTITY lol "lol">]>\n'
EXTERNAL = '<!DOCTYPE a [<!ENTITY x SYSTEM "secret.txt">]>\n'
BOMB = '<!DOCTYPE a [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;"><!ENTITY c "&b;&b;">]>\n'
REFUSED = {
    "an entity": (xml(DOG, head=ENTITY), r"a\.xml:1: declares a DOCTYPE"),
    "an external entity": (xml(DOG, head=EXTERNAL), "DOCTYPE"),
    "a bomb": (xml(DOG.replace("dog", "&c;"), head=BOMB), "DOCTYPE"),
    "a foreign DOCTYPE": (xml(DOG, head='<!DOCTYPE a SYSTEM "a.dtd">'), "DOCTYPE"),
    "an unknown entity": (xml(DOG.replace("dog", "&lol;")), r"a\.xml: not valid XML.*line 5"),
    "nothing": ("", "not valid XML"),
    "cut short": (xml(DOG)[:90], "not valid XML, perhaps cut short"),
    "no XML": ("a,b,c", "not valid XML"),
    "bytes": (b"\xff\x00\xfe", "not valid XML"),
    "unknown encoding": (xml(DOG, head='<?xml version="1.0" encoding="x"?>'), "not valid XML"),
    "something else": ("<html></html>", "holds a <html>, not VOC"),
    "two roots": (xml(DOG) + xml(DOG), "not valid XML"),
    "no name": (xml(DOG.replace("<name>dog</name>", "")), r"a\.xml:4: an object has no <name>"),
    "an empty name": (xml(DOG.replace("dog", " ")), r"a\.xml:4: an object has no <name>"),
    "no box": (xml("<object><name>dog</name></object>"), r"a\.xml:4: object 'dog' has no <xmin>"),
    "no side": (xml(box(1, 2, 3)), r"a\.xml:4: object 'dog' has no <ymax>"),
    "a word": (xml(box(1, 2, 3, "x")), r"a\.xml:4: .*<ymax> is 'x', not a number"),
    "a comma": (xml(box("1,5", 2, 3, 4)), r"<xmin> is '1,5'"),
    "an underscore": (xml(box("1_5", 2, 3, 4)), r"<xmin> is '1_5'"),
    "nothing in a side": (xml(box("", 2, 3, 4)), r"<xmin> is ''"),
    "no object anywhere": (xml(), "no object and so no class"),
}


@pytest.mark.parametrize(("text", "message"), REFUSED.values(), ids=REFUSED)
def test_what_could_teach_the_wrong_thing_is_refused_with_its_place(tmp_path, text, message):
    """One line names the file, and the line where there is one."""
    with pytest.raises(DataError, match=message) as caught:
        one(tmp_path, text)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_names_without_files_are_refused(tmp_path: Path):
    """A listed name without XML, and an XML without image, are named."""
    write(tmp_path, {"Annotations/a.xml": xml(DOG), "ImageSets/Main/train.txt": "a\nq\n"})
    with pytest.raises(DataError, match=r"train\.txt: 1 of its 2 names have no XML file .*: q"):
        open_dataset(tmp_path, "train")
    write(tmp_path, {"ImageSets/Main/train.txt": "a\n"})
    with pytest.raises(DataError, match=r"1 of 1 image files are missing: a\.png of a\.xml"):
        open_dataset(tmp_path, "train")


def test_pictures_without_xml_are_left_out_and_counted(tmp_path: Path):
    """Nobody said that they are empty."""
    write(tmp_path, {"images/b.png": "", "images/c.png": ""})
    index = one(tmp_path, xml(DOG))
    assert len(index) == 1
    assert [(r.value, r.done.split(":")[0]) for r in index.repairs] == [
        ("2 pictures", "without an XML file")
    ]


def test_an_image_is_found_by_its_filename_where_the_xml_has_another(tmp_path: Path):
    """The XML's own name goes first; what was taken instead is listed."""
    index = one(tmp_path, xml(DOG))
    (tmp_path / "images/a.png").rename(tmp_path / "images/photo.png")
    index = one_without_image(tmp_path, xml(DOG, filename="photo.png"))
    assert index.name(0) == "photo.png"
    assert "found by its <filename>" in index.repairs[-1].done


def one_without_image(root: Path, text: str):
    (root / "Annotations/a.xml").write_text(text)
    return open_dataset(root, "train")


def test_several_years_are_not_mixed(tmp_path: Path):
    """A devkit of two years asks which is meant."""
    write(tmp_path, {f"VOC20{year}/Annotations/a.xml": xml(DOG) for year in ("07", "12")})
    with pytest.raises(DataError, match=r"several data sets \(VOC2007, VOC2012\)"):
        open_dataset(tmp_path, "train")


def test_a_bomb_costs_nothing(tmp_path: Path):
    """Ten levels of tenfold entities are refused at once, in little memory."""
    levels = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 11))
    (tmp_path / "a.xml").write_text(
        f'<!DOCTYPE a [<!ENTITY l0 "lol">{levels}]><annotation>&l10;</annotation>'
    )
    code = (
        "import resource, sys, pathlib\n"
        "resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))\n"
        "from setmatch.data.formats.voc_xml import parse_voc; parse_voc(pathlib.Path(sys.argv[1]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "a.xml"], capture_output=True, text=True, timeout=60
    )
    assert "DOCTYPE" in done.stderr


FLOATS = st.floats(-1e6, 1e6) | st.floats(allow_nan=False, allow_infinity=False)


@given(FLOATS, st.floats(0, 1e6) | st.floats(0, allow_nan=False, allow_infinity=False))
def test_edges_give_back_the_width_to_the_last_bit(low: float, extent: float):
    """low + extent - low is extent, as it is not in floating point."""
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


@settings(max_examples=300)
@given(st.lists(XML, max_size=4), st.integers(0, 400), st.binary(max_size=3))
def test_no_xml_raises_anything_but_data_errors(tmp_path_factory, nodes, cut, noise):
    """Whatever stands in the file, it opens with targets inside the image, or is refused."""
    root = tmp_path_factory.getbasetemp() / "voc"
    text = xml(DOG, *nodes).encode("utf-8", "surrogatepass")
    try:
        index = one(root, text[:cut] + noise + text[cut:] if noise else text)
    except DataError:
        return
    cxcywh = index.target(0).cxcywh
    assert ((cxcywh >= 0) & (cxcywh <= 1)).all()
    assert np.isfinite(index.xywh_px).all()


@pytest.mark.campaign
@pytest.mark.timeout(3600)
@settings(max_examples=10_000)
@given(st.lists(XML, max_size=4), st.integers(0, 400), st.binary(max_size=3))
def test_of_ten_thousand_no_xml_raises_anything_but_data_errors(
    tmp_path_factory, nodes, cut, noise
):
    """The same claim, in the number of cases that is promised."""
    test_no_xml_raises_anything_but_data_errors.hypothesis.inner_test(
        tmp_path_factory, nodes, cut, noise
    )


def test_the_line_of_an_object_is_where_it_begins(tmp_path: Path):
    """So that an editor leads to it."""
    (tmp_path / "a.xml").write_text(xml(DOG, "\n\n", DOG))
    assert [each.line for each in parse_voc(tmp_path / "a.xml").objects] == [4, 8]
