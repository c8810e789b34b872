"""Malformed Pascal VOC: each kind of flaw is fixed and reported, or refused."""

import multiprocessing
import os
import resource
from pathlib import Path

import pytest

from setmatch.data.formats.voc.xml import parse_voc
from setmatch.data.open import open_dataset
from setmatch.errors import DataError
from small_voc import DOG, SIZE, box, one, write, xml

FIXED = {
    "swapped corners": (
        xml(box(36, 24, 6, 4)),
        "corners [36, 24, 6, 4]",
        "corners swapped: put in order",
        4,
    ),
    "one side swapped": (
        xml(box(36, 4, 6, 24)),
        "corners [36, 4, 6, 24]",
        "corners swapped: put in order",
        4,
    ),
    "zero width": (
        xml(box(6, 4, 6, 24)),
        "bbox [6, 4, 0, 20]",
        "box without area: left out of training",
        4,
    ),
    "outside": (
        xml(box(70, 4, 90, 24)),
        "bbox [70, 4, 20, 20]",
        "box outside the image: left out of training",
        4,
    ),
    "over the edge": (
        xml(box(6, 4, 90, 24)),
        "bbox [6, 4, 84, 20]",
        "box crosses the image's edge: clipped in training",
        4,
    ),
    "negative": (
        xml(box(-9, 4, 30, 24)),
        "bbox [-9, 4, 39, 20]",
        "box crosses the image's edge: clipped in training",
        4,
    ),
    "not a number": (
        xml(DOG, box("nan", 4, 30, 24)),
        "bbox [nan, 4, nan, 20]",
        "box not finite: left out",
        6,
    ),
    "infinite": (
        xml(DOG, box(0, 4, "inf", 24)),
        "bbox [0, 4, inf, 20]",
        "box not finite: left out",
        6,
    ),
    "twice": (xml(DOG, DOG), "bbox [6, 4, 30, 20]", "the same box and class again: kept", 6),
    "difficult": (
        xml(box(6, 4, 36, 24, more="<difficult>1</difficult>")),
        "object 'dog'",
        "marked difficult: read as a crowd, neither trained on nor counted",
        4,
    ),
    "odd difficult": (
        xml(box(6, 4, 36, 24, more="<difficult>x</difficult>")),
        "x",
        "<difficult> neither 0 nor 1: read as 0",
        4,
    ),
    "no size": (
        xml(DOG, size=""),
        "height absent, width absent",
        "size read from the image file",
        None,
    ),
    "zero size": (
        xml(DOG, size=SIZE.replace("60", "0")),
        "height 40, width 0",
        "size read from the image file",
        None,
    ),
    "size as text": (
        xml(DOG, size=SIZE.replace("60", "wide")),
        "height 40, width wide",
        "size read from the image file",
        None,
    ),
    "swapped size": (
        xml(DOG, size="<size><width>40</width><height>60</height></size>"),
        "height 60, width 40",
        "size read from the image file",
        None,
    ),
    "short polygon": (
        xml(box(6, 4, 36, 24, more="<polygon><x1>1</x1><y1>2</y1></polygon>")),
        "x1 1, y1 2",
        "polygon without three whole points: left out",
        4,
    ),
    "polygon of words": (
        xml(box(6, 4, 36, 24, more="<polygon><x1>a</x1><y1>b</y1></polygon>")),
        "x1 a, y1 b",
        "polygon without three whole points: left out",
        4,
    ),
    "other filename": (
        xml(DOG, filename="../elsewhere/z.png"),
        "z.png",
        "<filename> of another image: image of the XML file's own name used",
        None,
    ),
    "no filename": (xml(DOG, filename=""), None, None, None),
    "fractions": (xml(box("6.0", " 4.0 ", "36", "24.")), None, None, None),
    "Latin-1": (
        xml(DOG, head='<?xml version="1.0" encoding="latin-1"?>\n').encode("latin-1"),
        None,
        None,
        None,
    ),
    "UTF-16": (xml(DOG).encode("utf-16"), None, None, None),
    "byte order mark": (b"\xef\xbb\xbf" + xml(DOG).encode(), None, None, None),
    "CDATA": (xml(DOG.replace("dog", "<![CDATA[dog]]>")), None, None, None),
    "escaped characters": (xml(DOG.replace("dog", "d&#111;g")), None, None, None),
    "comments": (xml("<!-- nothing -->", DOG), None, None, None),
    "unknown elements": (xml("<owner><name>me</name></owner>", DOG), None, None, None),
}


@pytest.mark.parametrize(("text", "value", "done", "line"), FIXED.values(), ids=FIXED)
def test_each_harmless_flaw_is_fixed_and_reported(tmp_path: Path, text, value, done, line):
    """The fix has the file, line, value and action."""
    dataset = one(tmp_path, text)
    assert dataset.categories.names == ("dog",)
    assert dataset.sizes_px.tolist() == [[40, 60]]
    if done is None:
        assert dataset.fixes == ()
        assert dataset.xywh_px.tolist() == [[6, 4, 30, 20]]
        return
    (fix,) = dataset.fixes
    assert (fix.file, fix.line, fix.value, fix.description) == ("a.xml", line, value, done)
    cxcywh = dataset.target(0).cxcywh
    assert ((cxcywh >= 0) & (cxcywh <= 1)).all()


ENTITY = '<!DOCTYPE a [<!ENTITY lol "lol">]>\n'
EXTERNAL = '<!DOCTYPE a [<!ENTITY x SYSTEM "secret.txt">]>\n'
PARAMETER = '<!DOCTYPE a [<!ENTITY % x SYSTEM "secret.dtd"> %x;]>\n'
BOMB = '<!DOCTYPE a [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;"><!ENTITY c "&b;&b;">]>\n'
REFUSED = {
    "an entity": (xml(DOG, head=ENTITY), r"a\.xml:1: declares a DOCTYPE"),
    "an external entity": (xml(DOG, head=EXTERNAL), "DOCTYPE"),
    "a bomb": (xml(DOG.replace("dog", "&c;"), head=BOMB), "DOCTYPE"),
    "a parameter entity": (xml(DOG, head=PARAMETER), "DOCTYPE"),
    "a foreign DOCTYPE": (xml(DOG, head='<!DOCTYPE a SYSTEM "a.dtd">'), "DOCTYPE"),
    "an unknown entity": (xml(DOG.replace("dog", "&lol;")), r"a\.xml: not valid XML.*line 5"),
    "nothing": ("", "not valid XML"),
    "cut short": (xml(DOG)[:90], "not valid XML, perhaps cut short"),
    "no XML": ("a,b,c", "not valid XML"),
    "bytes": (b"\xff\x00\xfe", "not valid XML"),
    "unknown encoding": (xml(DOG, head='<?xml version="1.0" encoding="x"?>'), "not valid XML"),
    "something else": ("<html></html>", "holds a <html>; it should be VOC"),
    "two roots": (xml(DOG) + xml(DOG), "not valid XML"),
    "crossed tags": (xml("<object><name>dog</object></name>"), r"a\.xml: not valid XML.*line 4"),
    "a zero byte": (xml(DOG).replace("dog", "d\0g"), r"a\.xml: not valid XML.*line 5"),
    "two names": (
        xml(DOG.replace("</name>", "</name><name>cat</name>")),
        r"a\.xml:4: an object has <name> twice, 'dog' and 'cat'; keep one",
    ),
    "two boxes": (
        xml(DOG.replace("</bndbox>", "</bndbox><bndbox><xmin>9</xmin></bndbox>")),
        r"a\.xml:4: an object has <xmin> twice, '6' and '9'; keep one",
    ),
    "no name": (xml(DOG.replace("<name>dog</name>", "")), r"a\.xml:4: an object has no <name>"),
    "an empty name": (xml(DOG.replace("dog", " ")), r"a\.xml:4: an object has no <name>"),
    "no box": (xml("<object><name>dog</name></object>"), r"a\.xml:4: object 'dog' has no <xmin>"),
    "no side": (xml(box(1, 2, 3)), r"a\.xml:4: object 'dog' has no <ymax>"),
    "a word": (xml(box(1, 2, 3, "x")), r"a\.xml:4: .*<ymax> is 'x'; it should be a number"),
    "a comma": (xml(box("1,5", 2, 3, 4)), r"<xmin> is '1,5'"),
    "an underscore": (xml(box("1_5", 2, 3, 4)), r"<xmin> is '1_5'"),
    "nothing in a side": (xml(box("", 2, 3, 4)), r"<xmin> is ''"),
    "no object anywhere": (xml(), "no annotation has an object"),
}


@pytest.mark.parametrize(("text", "message"), REFUSED.values(), ids=REFUSED)
def test_ambiguous_files_raise_an_error_with_the_place(tmp_path, text, message):
    """The error names the file, the line, the value and what to do."""
    with pytest.raises(DataError, match=message) as caught:
        one(tmp_path, text)
    assert str(tmp_path) in str(caught.value)
    assert "; " in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("mark", ["1", " 1 ", "true", "Yes"])
@pytest.mark.parametrize("has_box", [True, False])
def test_objects_that_are_marked_deleted_are_left_out(tmp_path: Path, mark: str, has_box: bool):
    """LabelMe keeps what an annotator removed. Neither the object nor its class is learned."""
    marked = f"<deleted>{mark}</deleted>"
    removed = box(1, 2, 30, 20, name="cow", more=marked)
    if not has_box:
        removed = f"<object><name>cow</name>{marked}</object>\n"
    kept = box(6, 4, 36, 24, more="<deleted>0</deleted>")
    dataset = one(tmp_path, xml(removed, kept))
    assert dataset.categories.names == ("dog",)
    assert dataset.xywh_px.tolist() == [[6, 4, 30, 20]]
    assert [(fix.value, fix.description, fix.line) for fix in dataset.fixes] == [
        ("object 'cow'", "marked deleted: left out", 4)
    ]


@pytest.mark.parametrize(
    ("name", "filename", "is_unlabeled"),
    [
        ("a.xml", "a.png", False),
        ("a.png.xml", "a.png", False),
        ("A.xml", "A.png", False),
        ("frame 7.xml", "a.png", False),
        ("b.xml", "b.png", True),
    ],
)
def test_only_images_that_no_xml_file_is_about_are_said_to_have_none(
    tmp_path: Path, name: str, filename: str, is_unlabeled: bool
):
    files = {f"Annotations/{name}": xml(DOG, filename=filename), "images/a.png": ""}
    if is_unlabeled:
        files["images/b.png"] = ""
    dataset = open_dataset(write(tmp_path, files), "train")
    assert len(dataset) == 1
    said = [fix.file for fix in dataset.fixes if "without an XML file" in fix.description]
    assert said == ["a.png"] * is_unlabeled


def parse_in_little_memory(path: Path) -> None:
    """End this process with code 7 if the file is refused, within a gigabyte and 30 seconds."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + (1 << 30)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CPU, (30, 30))
    try:
        parse_voc(path)
    except DataError as error:
        os._exit(7 if "DOCTYPE" in str(error) else 1)


def test_nested_entities_are_refused_quickly_and_in_little_memory(tmp_path: Path):
    """Ten levels of tenfold entities."""
    levels = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 11))
    (tmp_path / "a.xml").write_text(
        f'<!DOCTYPE a [<!ENTITY l0 "lol">{levels}]><annotation>&l10;</annotation>'
    )
    child = multiprocessing.get_context("fork").Process(
        target=parse_in_little_memory, args=(tmp_path / "a.xml",)
    )
    child.start()
    child.join(60)
    assert child.exitcode == 7


def test_at_least_forty_kinds_of_flaws_are_covered():
    odd = [value for _, value, *_ in FIXED.values() if value is not None]
    assert len(odd) + len(REFUSED) >= 40
