"""YOLO: usual folders are read; flaws are fixed and reported, or refused with file and line."""

import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from setmatch.data.open import open_dataset
from setmatch.errors import DataError

BOX = "1 0.5 0.5 0.5 0.5\n"  # of 60 × 40 pixels: 15, 10, 30, 20
NAMES = "names: [cat, dog]\n"


def write(root: Path, files: dict[str, str | bytes]) -> Path:
    """Write texts, and images of 60 × 40 for names that end in png."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".png":
            Image.new("RGB", (60, 40)).save(path)
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def one(root: Path, text: str | bytes, config: str = NAMES + "train: images\n"):
    files = {"data.yaml": config, "images/a.png": "", "labels/a.txt": text}
    return open_dataset(write(root, files), "train")


def pair(image: str, label: str) -> dict[str, str]:
    return {image: "", label: BOX}


BARE = {
    "images/train": pair("images/train/a.png", "labels/train/a.txt")
    | pair("images/val/b.png", "labels/val/b.txt"),
    "train/images": pair("train/images/a.png", "train/labels/a.txt")
    | pair("valid/images/b.png", "valid/labels/b.txt"),
    "beside": pair("train/a.png", "train/a.txt") | pair("val/b.png", "val/b.txt"),
    "deeper": pair("images/train/a.png", "labels/train/a.txt")
    | pair("images/val/x/b.png", "labels/val/x/b.txt")
    | pair("images/val/c.png", "labels/val/c.txt"),
}
WITH_YAML = {
    "relative": "train: images/train\nval: images/val\n",
    "path": "path: .\ntrain: images/train/\nval: images/val\n",
    "Roboflow's": "train: ../images/train\nval: ../images/val\n",
    "a path that was": "path: /nowhere/at/all\ntrain: images/train\nval: images/val\n",
    "lists": "train: [images/train]\nvalid: [images/val]\n",
    "files": "train: train_list.txt\nval: val_list.txt\n",
}


@pytest.mark.parametrize("files", BARE.values(), ids=BARE)
def test_folders_without_data_yaml_are_read(tmp_path: Path, files: dict[str, str]):
    """Names come from classes.txt; every label belongs to its image."""
    write(tmp_path, files | {"classes.txt": "cat\ndog\n"})
    for split, name in (("train", "a.png"), ("val", "b.png")):
        dataset = open_dataset(tmp_path, split)
        assert name in dataset.name(len(dataset) - 1)
        assert dataset.categories.names == ("cat", "dog")
        assert dataset.xywh_px.tolist() == [[15, 10, 30, 20]] * len(dataset)
        assert dataset.class_indices.tolist() == [1] * len(dataset)
        assert dataset.fixes == ()


@pytest.mark.parametrize("places", WITH_YAML.values(), ids=WITH_YAML)
def test_a_data_yaml_is_read(tmp_path: Path, places: str):
    """Its folders are found even where the data set has moved."""
    lists = {"train_list.txt": "images/train/a.png\n", "val_list.txt": "./images/val/b.png"}
    write(tmp_path, BARE["images/train"] | {"data.yaml": NAMES + places, **lists})
    for source in (tmp_path, tmp_path / "data.yaml"):
        train, val = open_dataset(source, "train"), open_dataset(source, "val")
        assert (train.path(0).name, val.path(0).name) == ("a.png", "b.png")
        assert train.categories.names == ("cat", "dog")
        assert train.xywh_px.tolist() == [[15, 10, 30, 20]]


def test_labels_beside_images_in_a_folder_called_images_are_found(tmp_path: Path):
    root = tmp_path / "images" / "mine"
    write(root, pair("train/a.png", "train/a.txt") | {"classes.txt": "cat\ndog"})
    assert open_dataset(root, "train").class_indices.tolist() == [1]


def test_classes_without_names_are_numbered_over_all_splits(tmp_path: Path):
    """The data set reports that the classes have no names."""
    write(tmp_path, BARE["images/train"] | {"labels/val/b.txt": "7 .5 .5 .1 .1"})
    train, val = open_dataset(tmp_path, "train"), open_dataset(tmp_path, "val")
    assert train.categories == val.categories
    assert train.categories.names == tuple("01234567")
    assert "named by their numbers" in train.fixes[0].description


def test_polygons_are_kept_and_their_bounding_box_is_the_box(tmp_path: Path):
    dataset = one(tmp_path, "0 0.1 0.25 0.5 0.25 0.5 0.75\n" + BOX)
    assert dataset.xywh_px.tolist() == [[6, 10, 24, 20], [15, 10, 30, 20]]
    (ring,) = dataset.segmentations.rings(0)
    np.testing.assert_allclose(ring, [[6, 10], [30, 10], [30, 30]])
    assert dataset.segmentations.rings(1) == []


FIXED = {
    "an empty file": ("", None, None, None),
    "blank lines": ("\n\n" + BOX + "\n\n", None, None, None),
    "Windows lines": (BOX.replace("\n", "\r\n"), None, None, None),
    "tabs": (BOX.replace(" ", "\t"), None, None, None),
    "byte order mark": (b"\xef\xbb\xbf" + BOX.encode(), None, None, None),
    "exponents": ("1 5e-1 .5 0.5 0.50000000000", None, None, None),
    "class 1.0": (
        "1.0 .5 .5 .5 .5",
        "class 1.0",
        "class written as fraction: read as integer",
        1,
    ),
    "no width": (
        "1 .5 .5 0 .5",
        "bbox [30, 10, 0, 20]",
        "box without area: left out of training",
        1,
    ),
    "negative height": (
        BOX + "1 .5 .5 .5 -.5",
        "bbox [15, 30, 30, -20]",
        "box of negative width or height: left out",
        2,
    ),
    "outside": (
        "1 1.5 .5 .2 .2",
        "bbox [84, 16, 12, 8]",
        "box outside the image: left out of training",
        1,
    ),
    "over the edge": (
        "1 .9 .5 .4 .2",
        "bbox [42, 16, 24, 8]",
        "box crosses the image's edge: clipped in training",
        1,
    ),
    "not a number": (
        BOX + "\n1 nan .5 .2 .2",
        "bbox [nan, 16, 12, 8]",
        "box not finite: left out",
        3,
    ),
    "infinite": ("1 inf .5 .2 .2", "bbox [inf, 16, 12, 8]", "box not finite: left out", 1),
    "an infinite polygon": (
        "1 0 0 1 inf 1 1",
        "bbox [0, 0, 60, inf]",
        "box not finite: left out",
        1,
    ),
    "a polygon at infinity": (
        "1 inf 0 inf 1 inf .5",
        "bbox [inf, 0, nan, 40]",
        "box not finite: left out",
        1,
    ),
    "twice": (BOX + BOX, "bbox [15, 10, 30, 20]", "the same box and class again: kept", 2),
    "a flat polygon": (
        "1 .1 .1 .5 .1 .3 .1",
        "bbox [6, 4, 24, 0]",
        "box without area: left out of training",
        1,
    ),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("text", "value", "done", "line"), FIXED.values(), ids=FIXED)
def test_each_harmless_flaw_is_fixed_and_reported(tmp_path: Path, text, value, done, line):
    """The fix has the file, line, value and action."""
    dataset = one(tmp_path, text)
    if done is None:
        assert dataset.fixes == ()
        assert dataset.xywh_px.tolist() == [[15, 10, 30, 20]] * bool(text)
        return
    (fix,) = dataset.fixes
    assert (fix.file, fix.line, fix.value, fix.description) == ("a.txt", line, value, done)
    assert ((dataset.target(0).cxcywh >= 0) & (dataset.target(0).cxcywh <= 1)).all()


def test_images_without_labels_and_labels_without_images_are_reported(tmp_path: Path):
    write(tmp_path, {"images/b.png": "", "labels/c.txt": BOX})
    dataset = one(tmp_path, BOX)
    assert len(dataset) == 2 if "held" not in str(dataset.notes) else 1
    assert [(fix.file, fix.value) for fix in dataset.fixes] == [
        ("", "1 of 2 images"),
        ("c.txt", "label file"),
    ]


REFUSED = {
    "four numbers": ("1 .5 .5 .5", r"a\.txt:1: '1 \.5 \.5 \.5' has 4 numbers; write 5"),
    "six numbers": (BOX + "1 .5 .5 .5 .5 .9", r"a\.txt:2: '1 .* \.9' has 6 numbers"),
    "eight numbers": ("1 0 0 1 0 1 1 0", r"a\.txt:1: '1 0 .* 0' has 8 numbers"),
    "a word": ("dog .5 .5 .5 .5", r"a\.txt:1: 'dog .5 .5 .5 .5' is not all numbers"),
    "commas and a blank": ("1,5,5,5 5", r"a\.txt:1: '1,5,5,5 5' has 2 numbers"),
    "decimal commas": ("1 0,5 0,5 0,5 0,5", "not all numbers"),
    "underscores": ("1 0_1 .5 .5 .5", "not all numbers"),
    "Arabic digits": ("١ .5 .5 .5 .5", "not all numbers"),
    "half a class": ("1.5 .5 .5 .5 .5", r"class 1\.5; it should be 0, 1, 2"),
    "a negative class": ("-1 .5 .5 .5 .5", "class -1"),
    "class nan": ("nan .5 .5 .5 .5", "class nan"),
    "a huge class": ("9" * 30 + " .5 .5 .5 .5", "class 999"),
    "a nameless class": ("2 .5 .5 .5 .5", r"a\.txt:1: class 2, but only 2 classes have names"),
    "one line in pixels": (
        "1 15 10 30 20\n" + 2 * BOX,
        r"a\.txt:1: 30 is not a fraction of the image",
    ),
    "pixels": (
        "1 15 10 30 20",
        r"the boxes are probably center x, center y, width, height in pixels: 1 of 1 boxes have "
        r"numbers above 2.*a\.txt:1: \[15, 10, 30, 20\] is .*--boxes pixels",
    ),
    "binary": (b"\xff\xff\x00\x01", r"a\.txt: not text"),
    "a zero byte": ("1 .5 .5 .5 .5\x00", "not all numbers"),
}
CONFIGS = {
    "no YAML": ("names: [", "cannot be read as YAML"),
    "code": ("names: !!python/object/apply:os.getcwd []\ntrain: images", "cannot be read as YAML"),
    "no names": ("names:\ntrain: images", "'names' is None; it should be a list"),
    "names as text": ("names: cat\ntrain: images", "'names' is 'cat'"),
    "a name that is no text": ("names: [cat, no]\ntrain: images", "'names' has False; write"),
    "an empty name": ("names: [cat, '']\ntrain: images", "'names' has ''"),
    "a hole": ("names: {0: cat, 2: dog}\ntrain: images", r"keys \[0, 2\]; they should be 0, 1, 2"),
    "another count": (NAMES + "nc: 3\ntrain: images", "'nc' is 3, but 'names' has 2"),
    "no such folder": (NAMES + "train: pictures", "'train' is 'pictures', but none of"),
    "a number": (NAMES + "train: 7", "'train' is 7; it should be a folder"),
    "twice the same name": (
        "names: [cat, cat]\ntrain: images",
        r"data\.yaml: 'names' has 'cat' twice",
    ),
    "a mapping": (NAMES + "train: {a: b}", "'train' is"),
    "a path that is none": (NAMES + "path: 3\ntrain: images", "'path' is 3"),
    "a zero byte": (NAMES + 'train: "a\\0b"', r"'train' is 'a\\x00b'"),
}


@pytest.mark.parametrize(("text", "message"), REFUSED.values(), ids=REFUSED)
def test_ambiguous_lines_raise_an_error_with_the_line(tmp_path, text, message):
    """The error names the file, the line, the value and what to do."""
    with pytest.raises(DataError, match=message) as caught:
        one(tmp_path, text)
    assert str(tmp_path) in str(caught.value)
    assert "; " in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("config", "message"), CONFIGS.values(), ids=CONFIGS)
def test_a_wrong_data_yaml_raises_an_error_with_the_key(tmp_path, config, message):
    """The error names the file, the key, the value and what to do."""
    with pytest.raises(DataError, match=message) as caught:
        one(tmp_path, BOX, config)
    assert str(tmp_path) in str(caught.value)
    assert "; " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_at_least_forty_kinds_of_flaws_are_covered():
    odd = [value for _, value, *_ in FIXED.values() if value is not None]
    assert len(odd) + len(REFUSED) + len(CONFIGS) >= 40


SEPARATED = {
    "commas": "1,0.5,0.5,0.5,0.5",
    "commas and blanks": "1, 0.5, 0.5, 0.5, 0.5",
    "semicolons": "1;0.5;0.5;0.5;0.5",
    "a last comma": "1,0.5,0.5,0.5,0.5,",
    "tabs around commas": "1\t,0.5 ,\t0.5,0.5,0.5",
}


@pytest.mark.parametrize("line", SEPARATED.values(), ids=SEPARATED)
def test_numbers_between_commas_are_read_and_said(tmp_path: Path, line: str):
    dataset = one(tmp_path, f"{line}\r\n{line}\n")
    assert dataset.xywh_px.tolist() == [[15, 10, 30, 20]] * 2
    assert dataset.fix_counts["numbers with commas or semicolons between them: read"] == 1
    (value,) = (fix.value for fix in dataset.fixes if "commas" in fix.description)
    assert value == "2 lines"


@pytest.mark.parametrize(
    "line", ["1 0,5 0,5 0,5 0,5", "1;0,5;0,5;0,5;0,5", "1,,0.5,0.5,0.5,0.5", "1 0.5, 0.5 0.5, 0.5"]
)
def test_other_commas_are_refused(tmp_path: Path, line: str):
    """Above all those of decimal numbers."""
    with pytest.raises(DataError, match=r"a\.txt:1: .*with blanks between them"):
        one(tmp_path, line)


@pytest.mark.parametrize("suffixes", [(".png", ".jpg"), (".JPG", ".jpg", ".bmp")])
def test_images_that_share_a_label_file_are_said(tmp_path: Path, suffixes: tuple[str, ...]):
    files = {"data.yaml": NAMES + "train: images\nval: images\n", "labels/a.txt": BOX}
    write(tmp_path, files | {"images/b.png": ""})
    for suffix in suffixes:
        shutil.copy(tmp_path / "images/b.png", tmp_path / f"images/a{suffix}")
    (tmp_path / "images/b.png").unlink()
    dataset = open_dataset(tmp_path, "train")
    assert len(dataset) == len(dataset.xywh_px) == len(suffixes)
    (fix,) = (each for each in dataset.fixes if "several images" in each.description)
    assert (fix.file, fix.value) == ("a.txt", f"{len(suffixes)} images")


TWICE = {
    "names": "names: [cat, dog]\ntrain: images\nnames: [dog, cat]\n",
    "another case": "names: [cat, dog]\ntrain: images\nNames: [dog, cat]\n",
    "a split": "names: [cat, dog]\ntrain: images\nval: images\nvalid: more\n",
}


@pytest.mark.parametrize("text", TWICE.values(), ids=TWICE)
def test_what_a_data_yaml_says_twice_is_refused(tmp_path: Path, text: str):
    """The last would count in silence, and swap the classes."""
    files = {"data.yaml": text, "images/a.png": "", "more/b.png": "", "labels/a.txt": BOX}
    with pytest.raises(DataError, match=r"data\.yaml.*(duplicate key|given twice|again)"):
        open_dataset(write(tmp_path, files), "train")


def test_keys_of_a_data_yaml_may_have_capitals(tmp_path: Path):
    dataset = one(tmp_path, BOX, "Names: [cat, dog]\nTRAIN: images\nNC: 2\n")
    assert dataset.categories.names == ("cat", "dog")


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16-le"])
def test_a_data_yaml_of_another_encoding_is_refused_with_advice(tmp_path: Path, encoding: str):
    text = "train: images\nnames: [café, dog]\n".encode(encoding)
    with pytest.raises(DataError, match=r"data\.yaml: not UTF-8 text .*; save it as UTF-8"):
        open_dataset(write(tmp_path, {"data.yaml": text, "images/a.png": ""}), "train")


def test_a_folder_without_any_label_is_refused(tmp_path: Path):
    """Unlabeled images are not images without objects."""
    write(tmp_path, {"data.yaml": NAMES + "train: images", "images/a.png": ""})
    with pytest.raises(DataError, match="none of 1 images has a label file"):
        open_dataset(tmp_path, "train")


WORDS = st.sampled_from(["0", "1", "2", "-1", "0.5", "1e400", "nan", "x", "1_0", "30", "", "\x0b"])
TEXT = st.lists(st.lists(WORDS, max_size=8).map(" ".join), max_size=4).map("\n".join)


@given(TEXT.map(str.encode) | st.binary(max_size=40))
def test_any_label_file_opens_or_raises_a_data_error(tmp_path_factory, text: bytes):
    """Files that open have targets inside their images."""
    try:
        dataset = one(tmp_path_factory.getbasetemp() / "yolo", text)
    except DataError:
        return
    cxcywh = dataset.target(0).cxcywh
    assert ((cxcywh >= 0) & (cxcywh <= 1)).all()


@pytest.mark.promise(11, cases=10_000)
@pytest.mark.campaign
@pytest.mark.timeout(3600)
@settings(max_examples=10_000)
@given(TEXT.map(str.encode) | st.binary(max_size=40))
def test_any_of_ten_thousand_label_files_opens_or_raises_a_data_error(
    tmp_path_factory, text: bytes
):
    test_any_label_file_opens_or_raises_a_data_error.hypothesis.inner_test(tmp_path_factory, text)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text("ab {:\x001", max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@given(st.dictionaries(st.sampled_from(["names", "train", "val", "path", "nc"]), VALUES))
def test_any_data_yaml_opens_or_raises_a_data_error(tmp_path_factory, tree):
    import yaml

    root = tmp_path_factory.getbasetemp() / "yolo yaml"
    with suppress(DataError):
        one(root, BOX, yaml.safe_dump({"names": ["cat", "dog"], "train": "images"} | tree))


@pytest.mark.promise(11, cases=10_000)
@pytest.mark.campaign
@pytest.mark.timeout(3600)
@settings(max_examples=10_000)
@given(st.dictionaries(st.sampled_from(["names", "train", "val", "path", "nc"]), VALUES))
def test_any_of_ten_thousand_data_yamls_opens_or_raises_a_data_error(tmp_path_factory, tree):
    test_any_data_yaml_opens_or_raises_a_data_error.hypothesis.inner_test(tmp_path_factory, tree)
