"""Malformed COCO files that are refused: the error has the place, the value and what to do."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from setmatch.data.formats.coco.read import read_coco
from setmatch.errors import DataError
from small_coco import (
    Change,
    category,
    edited,
    image,
    object_,
    read,
    sound,
    without,
    write_images,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"))


REPEATED = {
    "annotations": lambda text: f'{text[:-1]}, "annotations": []}}',
    "images": lambda text: f'{{"images": [], {text[1:]}',
    "categories": lambda text: f'{text[:-1]}, "categories": []}}',
    "bbox": lambda text: text.replace('"bbox": [', '"bbox": [1, 1, 2, 2], "bbox": [', 1),
}


@pytest.mark.parametrize("key", REPEATED)
@pytest.mark.parametrize("flaw", [False, True])
def test_a_key_that_is_there_twice_is_refused(folder: Path, key: str, flaw: bool):
    """The last would count in silence, in flawless files as in others."""
    tree = edited(object_(1, area=None) if flaw else lambda tree: None)
    (folder / "twice.json").write_text(REPEATED[key](json.dumps(tree)))
    with pytest.raises(DataError, match=rf"twice\.json: '{key}' is twice in one object"):
        read_coco(folder / "twice.json", folder)


def test_keys_of_other_places_are_no_repetition(folder: Path):
    more = {"images": 1, "bbox": [1], "annotations": [{"bbox": []}] * 9, "categories": "images"}
    tree = edited(lambda tree: tree.update(info=more))
    (folder / "more.json").write_text(json.dumps(tree))
    assert len(read_coco(folder / "more.json", folder)) == 3


WHOLE, TEXT = "it should be an integer", "it should be a non-empty string"
OWN = "give each its own"
ADD = "add it, or name the file that has it"
# Where, which value, and what to do.
REFUSED: Mapping[str, tuple[Change, str, str, str]] = {
    "unknown category": (
        object_(1, category_id=4),
        *("annotations[1] (id 2)", "category_id 4 is none of the 2 categories"),
        "list the category, or correct or remove the annotation",
    ),
    "no category": (
        without("annotations", 1, "category_id"),
        *("annotations[1] (id 2)", "has no 'category_id'", WHOLE),
    ),
    "category by name": (
        object_(1, category_id="dog"),
        *("annotations[1] (id 2)", "'category_id' is 'dog'", WHOLE),
    ),
    "no image": (
        without("annotations", 1, "image_id"),
        *("annotations[1] (id 2)", "has no 'image_id'", WHOLE),
    ),
    "annotation id a list": (object_(1, id=[2]), "annotations[1] (id [2])", "'id' is [2]", WHOLE),
    "annotation id halved": (object_(1, id=2.5), "annotations[1] (id 2.5)", "'id' is 2.5", WHOLE),
    "image id a name": (image(1, id="b"), "images[1] (id 'b')", "'id' is 'b'", WHOLE),
    "image id a boolean": (image(1, id=True), "images[1] (id True)", "'id' is True", WHOLE),
    "no image id": (without("images", 1, "id"), "images[1]", "has no 'id'", WHOLE),
    "image id beyond 64 bits": (
        image(1, id=2**63),
        *(f"images[1] (id {2**63})", f"'id' is {2**63}"),
        "it should be a number of at most 64 bits",
    ),
    "image id twice": (
        image(1, id=10),
        *("images[1] (id 10)", "'b.png' has the image id of 'a.png'", OWN),
    ),
    "category id twice": (
        category(1, id=18),
        *("categories[1] (id 18)", "'car' has the category id of 'dog'", OWN),
    ),
    "no class name": (
        without("categories", 1, "name"),
        *("categories[1] (id 3)", "has no 'name'", TEXT),
    ),
    "class name a flag": (category(1, name=True), "categories[1] (id 3)", "'name' is True", TEXT),
    "class name empty": (category(1, name=""), "categories[1] (id 3)", "'name' is ''", TEXT),
    "no file name": (
        without("images", 1, "file_name"),
        *("images[1] (id 20)", "has no 'file_name'", TEXT),
    ),
    "half a surrogate": (
        image(1, file_name="\ud800"),
        *("images[1] (id 20)", r"'file_name' is '\ud800'", TEXT),
    ),
    "height a word": (image(1, height="x"), "images[1] (id 20)", "'height' is 'x'", WHOLE),
    "height halved": (image(1, height=4.5), "images[1] (id 20)", "'height' is 4.5", WHOLE),
    "iscrowd 2": (
        object_(0, iscrowd=2),
        *("annotations[0] (id 1)", "'iscrowd' is 2", "it should be 0 or 1"),
    ),
    "iscrowd a word": (
        object_(0, iscrowd="no"),
        *("annotations[0] (id 1)", "'iscrowd' is 'no'", "it should be 0 or 1"),
    ),
    "no images": (
        lambda tree: tree["images"].clear(),
        *("lists no images", "no images", "list at least one, or name another file"),
    ),
    "no categories": (
        lambda tree: tree["categories"].clear(),
        *("lists no categories", "no categories", "list at least one class"),
    ),
    **{
        f"no list of {key}": (
            lambda tree, key=key: tree.pop(key),
            *(f"no list {key!r}", "have, but 'images'" if key != "images" else "have, but", ADD),
        )
        for key in ("images", "categories", "annotations")
    },
    "images as an object": (
        lambda tree: tree.update(images={"a": 1}),
        *("'images' is {'a': 1}", "{'a': 1}", "it should be a list"),
    ),
    "image a number": (
        lambda tree: tree["images"].append(3),
        *("images[3] is 3", "3", "it should be an object"),
    ),
    "annotation null": (
        lambda tree: tree["annotations"].insert(1, None),
        *("annotations[1] is None", "None", "it should be an object"),
    ),
}


@pytest.mark.parametrize(("change", "place", "value", "advice"), REFUSED.values(), ids=REFUSED)
def test_ambiguous_files_raise_an_error_with_place_value_and_advice(
    folder: Path, change: Change, place: str, value: str, advice: str
):
    """In one line."""
    with pytest.raises(DataError) as caught:
        read(folder, edited(change))
    message = str(caught.value)
    assert message.startswith(f"{folder / 'set.json'}: {place}")
    assert value in message
    assert message.endswith(advice)
    assert "\n" not in message


def test_places_count_all_images_of_the_file(folder: Path):
    """Duplicates and images without a file are counted too."""
    tree = sound()
    tree["images"].insert(0, tree["images"][0])
    tree["images"].insert(0, tree["images"][0] | {"id": 7, "file_name": "gone.png"})
    tree["images"][4]["width"] = "x"
    with pytest.raises(DataError, match=r"images\[4\] \(id 30\): 'width' is 'x'"):
        read(folder, tree)


NOWHERE = (
    *("/etc/passwd", "../../etc/passwd", "C:\\x.png", "b\0.png", "/", ".."),
    *("x" * 5000, "a/" * 10**5 + "x.png"),
)
NAMED = [name[:20] for name in NOWHERE]


@pytest.mark.parametrize("name", NOWHERE, ids=NAMED)
def test_a_file_that_is_nowhere_in_the_data_set_is_missing(folder: Path, name: str):
    """Whatever its name is, and whatever lies elsewhere."""
    dataset = read(folder, edited(image(1, file_name=name)))
    assert [dataset.name(image) for image in range(len(dataset))] == ["a.png", "c.png"]
    assert "image file missing: left out" in dataset.fix_counts


@pytest.mark.parametrize("length", [10, 10_000, 10**6])
def test_a_file_without_the_lists_is_shown_by_the_beginning_of_its_keys(tmp_path: Path, length):
    (tmp_path / "set.json").write_text(json.dumps({f"{number}" * length: 1 for number in range(9)}))
    with pytest.raises(DataError, match=r"no list 'images'.*but '0000000000") as caught:
        read_coco(tmp_path / "set.json")
    assert len(str(caught.value)) < 1000 + len(str(tmp_path))


def test_more_than_thirty_kinds_of_flaws_are_refused():
    assert len(REFUSED) + len(NOWHERE) > 30


def test_a_file_truncated_anywhere_is_refused_by_name(folder: Path):
    text = json.dumps(sound())
    cut = folder / "cut.json"
    for length in range(len(text)):
        cut.write_text(text[:length])
        with pytest.raises(DataError, match=r"cut\.json: not valid JSON, .*; copy or export"):
            read_coco(cut)


@pytest.mark.parametrize(
    "content",
    [
        b"[]",
        b"null",
        b"7",
        b'{"images": \xff}',
        b"[" * 100_000,
        b'{"images": [{"id": ' + b"9" * 5000 + b"}]}",
        b"\x89PNG\r\n\x1a\n",
        b"\0" * 100,
    ],
    ids=["list", "null", "number", "not UTF-8", "deep", "huge number", "image", "zeros"],
)
def test_a_file_that_is_not_a_json_object_is_refused(tmp_path: Path, content: bytes):
    (tmp_path / "bad.json").write_bytes(content)
    with pytest.raises(DataError, match=r"bad\.json: .*; ") as caught:
        read_coco(tmp_path / "bad.json")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "gbk", "shift_jis"])
def test_a_file_in_an_encoding_of_a_country_says_how_to_save_it(tmp_path: Path, encoding: str):
    """Windows programs write cp1252 by default; such a file is not called cut short."""
    name = {"gbk": "狗", "shift_jis": "犬"}.get(encoding, "Möwe")
    text = json.dumps(sound(), ensure_ascii=False).replace("dog", name)
    (tmp_path / "set.json").write_text(text, encoding=encoding)
    with pytest.raises(DataError, match=r"set\.json: not UTF-8 text \(.*\); save it as UTF-8"):
        read_coco(tmp_path / "set.json")


def renumbered(listed: list[int], used: list[int], flaw: bool) -> Change:
    def change(tree: dict[str, Any]) -> None:
        for each, id_ in zip(tree["images"], listed, strict=True):
            each["id"] = id_
        for each, id_ in zip(tree["annotations"], used, strict=True):
            each["image_id"] = id_
        if flaw:  # so that the annotations are read one by one
            tree["annotations"][0]["area"] = None

    return change


@pytest.mark.parametrize("flaw", [False, True])
@pytest.mark.parametrize(
    ("listed", "used", "asks"),
    [
        ([1, 2, 3], [0, 1, 2], True),
        ([0, 1, 2], [1, 2, 3], True),
        ([3, 1, 2], [0, 0, 2], True),
        ([1, 2, 3], [0, 1, 3], False),  # one lost image
        ([1, 2, 3], [1, 2, 2], False),
        ([1, 2, 4], [0, 1, 2], False),
        ([1, 2, 3], [0, 4, 2], False),
        ([2, 3, 4], [1, 2, 3], False),
    ],
)
def test_images_counted_from_another_number_than_listed_are_asked_about(
    folder: Path, listed: list[int], used: list[int], asks: bool, flaw: bool
):
    """Each image would have the boxes of its neighbor, and one in all would be left out."""
    tree = edited(renumbered(listed, used, flaw))
    if not asks:
        assert len(read(folder, tree)) == 3
        return
    with pytest.raises(DataError, match=r"which is not listed, and none names image \d: do they"):
        read(folder, tree)
