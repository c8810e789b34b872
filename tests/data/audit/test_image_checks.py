"""What a survey says about image files: which cannot be used, which are odd, which look alike."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from setmatch.data.audit.image_checks import Picture, alike, open_pictures
from setmatch.data.audit.near_duplicates import ImageHash, image_hashes, near_duplicates
from setmatch.data.corrupt_files import sample
from setmatch.data.dataset import DetectionDataset
from setmatch.data.formats.coco.read import read_coco


def photograph(seed: int, size: tuple[int, int] = (96, 64)) -> Image.Image:
    """Soft blotches: neighboring pixels agree, as in photographs."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def pixels(picture: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def index_over(folder: Path, sizes: dict[str, tuple[int, int]]) -> DetectionDataset:
    """An index over image files with the (width, height) that were annotated."""
    images = [
        {"id": k, "file_name": name, "width": width, "height": height}
        for k, (name, (width, height)) in enumerate(sizes.items())
    ]
    tree = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "cat"}]}
    source = folder / "set.json"
    source.write_text(json.dumps(tree))
    return read_coco(source, folder)


def opened(index: DetectionDataset, split: str = "train") -> list[Picture]:
    return open_pictures(index, range(len(index)), split, int)


def turned(path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    photograph(1).save(path, exif=exif)


def cut_short(path: Path) -> None:
    photograph(1).save(path)
    path.write_bytes(path.read_bytes()[:-200])


ODD: dict[str, tuple[str, Callable[[Path], None], tuple[int, int], str | None]] = {
    "plain": ("a.jpg", lambda p: photograph(1).save(p), (96, 64), None),
    "gray": ("a.jpg", lambda p: photograph(1).convert("L").save(p), (96, 64), "gray image"),
    "CMYK": ("a.jpg", lambda p: photograph(1).convert("CMYK").save(p), (96, 64), "CMYK"),
    "palette": ("a.png", lambda p: photograph(1).convert("P").save(p), (96, 64), "palette"),
    "alpha": ("a.png", lambda p: photograph(1).convert("RGBA").save(p), (96, 64), "transparency"),
    "16 bit": (
        "a.png",
        lambda p: Image.fromarray(np.full((64, 96), 40000, dtype=np.uint16)).save(p),
        (96, 64),
        "more than 8 bits",
    ),
    "animated": (
        "a.gif",
        lambda p: photograph(1).save(p, save_all=True, append_images=[photograph(2)]),
        (96, 64),
        "animated",
    ),
    "turned": ("a.jpg", lambda p: turned(p, 6), (64, 96), "turned by EXIF"),
    "scaled": ("a.jpg", lambda p: photograph(1).save(p), (48, 32), "another size"),
    "cut short": ("a.jpg", cut_short, (96, 64), "cannot be used"),
    "empty": ("a.jpg", lambda p: p.write_bytes(b""), (96, 64), "cannot be used"),
    "other shape": ("a.jpg", lambda p: photograph(1).save(p), (64, 64), "cannot be used"),
}


@pytest.mark.parametrize(("name", "write", "annotated", "what"), ODD.values(), ids=ODD)
def test_odd_files_are_named(tmp_path: Path, name, write, annotated, what: str | None):
    """Each oddity is named with its file; what training would stop at must be mended."""
    write(tmp_path / name)
    (picture,) = opened(index_over(tmp_path, {name: annotated}))
    if what is None:
        assert picture.findings == ()
        return
    told = [each for each in picture.findings if what in each.what]
    assert len(told) == 1
    assert (told[0].file, told[0].split) == (name, "train")
    assert told[0].severity == ("mend" if what == "cannot be used" else "note")
    assert (picture.look is None) == (what == "cannot be used")


@pytest.mark.parametrize(("split", "severity"), [("train", "repaired"), ("val", "mend")])
def test_few_files_that_cannot_be_used_are_named_and_stop_no_training(
    tmp_path: Path, split: str, severity: str
):
    """One of a hundred is left out of training by name; an evaluation needs every image."""
    for number in range(100):
        photograph(number).save(tmp_path / f"{number}.jpg")
    cut_short(tmp_path / "7.jpg")
    pictures = opened(index_over(tmp_path, {f"{k}.jpg": (96, 64) for k in range(100)}), split)
    (found,) = (f for each in pictures for f in each.findings if "cannot be used" in f.what)
    assert (found.severity, found.file) == (severity, "7.jpg")


@pytest.mark.parametrize(
    ("orientation", "annotated", "done"),
    [
        (6, (64, 96), "turned upright"),
        (6, (96, 64), "not turned: it was annotated as it is stored"),
        (3, (96, 64), "turned upright; see whether its boxes fit, the size cannot tell"),
    ],
)
def test_what_exif_does_is_said(tmp_path: Path, orientation: int, annotated, done: str):
    """Whether a photograph is turned depends on the size it was annotated with."""
    turned(tmp_path / "a.jpg", orientation)
    (picture,) = opened(index_over(tmp_path, {"a.jpg": annotated}))
    assert [each.done for each in picture.findings] == [done]


def test_samples_are_the_same_every_time(tmp_path: Path):
    """A sample has the size asked for, no image twice, and does not change."""
    for k in range(30):
        (tmp_path / f"{k}.png").touch()
    index = index_over(tmp_path, {f"{k}.png": (9, 9) for k in range(30)})
    chosen = sample(index, 7)
    assert len(set(chosen.tolist())) == 7
    assert chosen.tolist() == sorted(chosen.tolist()) == sample(index, 7).tolist()
    assert sample(index, None).tolist() == sample(index, 99).tolist() == list(range(30))


@pytest.mark.parametrize(
    "change",
    [
        lambda picture: picture,
        lambda picture: picture.resize((480, 320), Image.Resampling.LANCZOS),
        lambda picture: picture.resize((40, 40), Image.Resampling.BOX),
        lambda picture: picture.point(lambda level: min(level + 3, 255)),
        lambda picture: picture.convert("P").convert("RGB"),
    ],
    ids=["same", "larger", "squashed", "brighter", "fewer colors"],
)
def test_copies_look_alike(change):
    """A picture is found again when it was resized, recompressed or slightly changed."""
    others = [image_hashes(pixels(photograph(seed)))[0] for seed in range(20)]
    (pair,) = near_duplicates([image_hashes(pixels(change(photograph(7))))[0]], others)
    assert (pair.first, pair.second) == (0, 7)


def test_a_picture_in_a_mirror_is_found(tmp_path: Path):
    """A mirrored copy in another split is named as such; the same picture is no mirror image."""
    for split in "tv":
        (tmp_path / split).mkdir()
    for seed in range(6):
        photograph(seed).save(tmp_path / "t" / f"{seed}.png")
    photograph(3).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "v" / "0.png")
    photograph(4).resize((48, 32)).save(tmp_path / "v" / "1.png")
    splits = {
        "t": index_over(tmp_path / "t", {f"{seed}.png": (96, 64) for seed in range(6)}),
        "v": index_over(tmp_path / "v", {"0.png": (96, 64), "1.png": (48, 32)}),
    }
    found = alike(splits, {name: opened(index, name) for name, index in splits.items()})
    assert [
        (near_duplicates.image, near_duplicates.other, near_duplicates.mirrored)
        for near_duplicates in found
    ] == [
        (0, 3, True),
        (1, 4, False),
    ]
    assert "like 3.png of t, mirrored; " in found[0].finding(splits).value


def test_different_pictures_do_not_look_alike():
    """Among 200 unrelated pictures there is no pair."""
    looks = [image_hashes(pixels(photograph(seed)))[0] for seed in range(200)]
    assert near_duplicates(looks[:100], looks[100:]) == []
    assert near_duplicates([], looks) == near_duplicates(looks, []) == []


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=6), st.integers(0, 2**64 - 1))
def test_hash_bits_are_counted_right(words: list[int], other: int):
    """The distance of two hashes is the number of bits in which they differ."""
    gray = bytes(256)
    pairs = near_duplicates([ImageHash(word, gray) for word in words], [ImageHash(other, gray)])
    near = {k: (word ^ other).bit_count() for k, word in enumerate(words)}
    assert {p.first: p.bits for p in pairs} == {k: bits for k, bits in near.items() if bits <= 6}
    same = near_duplicates([ImageHash(other ^ 0b10101, gray)], [ImageHash(other, gray)])
    assert [pair.bits for pair in same] == [3]


def test_a_picture_of_another_split_is_found(tmp_path: Path):
    """Leaks between splits are listed with both names; within a split nothing is said."""
    (tmp_path / "t").mkdir()
    (tmp_path / "v").mkdir()
    for seed in range(6):
        photograph(seed).save(tmp_path / "t" / f"{seed}.png")
    photograph(4).resize((192, 128)).save(tmp_path / "v" / "new.jpg", quality=70)
    photograph(99).save(tmp_path / "v" / "other.jpg")
    photograph(99).save(tmp_path / "v" / "twin.jpg")
    splits = {
        "train": index_over(tmp_path / "t", {f"{seed}.png": (96, 64) for seed in range(6)}),
        "val": index_over(
            tmp_path / "v", {"new.jpg": (192, 128), "other.jpg": (96, 64), "twin.jpg": (96, 64)}
        ),
    }
    (near_duplicates,) = alike(
        splits, {split: opened(index, split) for split, index in splits.items()}
    )
    assert (
        near_duplicates.split,
        near_duplicates.image,
        near_duplicates.other_split,
        near_duplicates.other,
    ) == ("val", 0, "train", 4)
    leak = near_duplicates.finding(splits)
    assert (leak.split, leak.file) == ("val", "new.jpg")
    assert leak.value.startswith("like 4.png of train")
