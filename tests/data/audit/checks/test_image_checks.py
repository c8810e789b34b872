"""Checks of image files: unusable files, unusual formats, near duplicates across splits."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from setmatch.data.audit.checks.image_checks import ImageCheck, check_images, find_near_duplicates
from setmatch.data.audit.checks.near_duplicates import ImageHash, find_similar_pairs, hash_image
from setmatch.data.dataset import DetectionDataset
from setmatch.data.formats.coco.read import read_coco
from setmatch.data.images.corrupt_files import sample


def photograph(seed: int, size: tuple[int, int] = (96, 64)) -> Image.Image:
    """Return an image of soft blotches: neighboring pixels are similar, as in photographs."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def pixels(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def dataset_in(folder: Path, sizes: dict[str, tuple[int, int]]) -> DetectionDataset:
    """Return a data set of image files with their annotated (width, height)."""
    images = [
        {"id": k, "file_name": name, "width": width, "height": height}
        for k, (name, (width, height)) in enumerate(sizes.items())
    ]
    tree = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "cat"}]}
    source = folder / "set.json"
    source.write_text(json.dumps(tree))
    return read_coco(source, folder)


def check_all(dataset: DetectionDataset, split: str = "train") -> list[ImageCheck]:
    return check_images(dataset, range(len(dataset)), split, int)


def save_rotated(path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    photograph(1).save(path, exif=exif)


def save_truncated(path: Path) -> None:
    photograph(1).save(path)
    path.write_bytes(path.read_bytes()[:-200])


def save_with_smaller_copy(path: Path) -> None:
    """Write a TIFF whose second image is the first one at half its size, as maps have them."""
    smaller = photograph(1).resize((48, 32))
    smaller.encoderinfo = {"tiffinfo": {254: 1}}
    photograph(1).save(path, save_all=True, append_images=[smaller])


UNUSUAL: dict[str, tuple[str, Callable[[Path], None], tuple[int, int], str | None]] = {
    "plain": ("a.jpg", lambda p: photograph(1).save(p), (96, 64), None),
    "gray": ("a.jpg", lambda p: photograph(1).convert("L").save(p), (96, 64), "grayscale image"),
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
    "pages": (
        "a.tif",
        lambda p: photograph(1).save(p, save_all=True, append_images=[photograph(2)]),
        (96, 64),
        "several pages",
    ),
    "smaller copy": ("a.tif", save_with_smaller_copy, (96, 64), None),
    "rotated": ("a.jpg", lambda p: save_rotated(p, 6), (64, 96), "rotated by EXIF"),
    "scaled": ("a.jpg", lambda p: photograph(1).save(p), (48, 32), "size differs"),
    "truncated": ("a.jpg", save_truncated, (96, 64), "cannot be read"),
    "empty": ("a.jpg", lambda p: p.write_bytes(b""), (96, 64), "cannot be read"),
    "other shape": ("a.jpg", lambda p: photograph(1).save(p), (64, 64), "cannot be read"),
}


@pytest.mark.parametrize(("name", "write", "annotated", "kind"), UNUSUAL.values(), ids=UNUSUAL)
def test_unusual_files_are_found(tmp_path: Path, name, write, annotated, kind: str | None):
    """A file at which training would stop is an error."""
    write(tmp_path / name)
    (check,) = check_all(dataset_in(tmp_path, {name: annotated}))
    if kind is None:
        assert check.findings == ()
        return
    (finding,) = (each for each in check.findings if kind in each.kind)
    assert (finding.file, finding.split) == (name, "train")
    assert finding.severity == ("error" if kind == "cannot be read" else "note")
    assert (check.hash is None) == (kind == "cannot be read")


@pytest.mark.parametrize(("split", "severity"), [("train", "fixed"), ("val", "error")])
def test_a_few_unusable_files_are_left_out_of_training(tmp_path: Path, split: str, severity: str):
    """Training tolerates one of a hundred; an evaluation needs every image."""
    for number in range(100):
        photograph(number).save(tmp_path / f"{number}.jpg")
    save_truncated(tmp_path / "7.jpg")
    checks = check_all(dataset_in(tmp_path, {f"{k}.jpg": (96, 64) for k in range(100)}), split)
    (finding,) = (f for each in checks for f in each.findings if "cannot be read" in f.kind)
    assert (finding.severity, finding.file) == (severity, "7.jpg")


@pytest.mark.parametrize(
    ("orientation", "annotated", "action"),
    [
        (6, (64, 96), "rotated upright"),
        (6, (96, 64), "not rotated: annotated as it is stored"),
        (3, (96, 64), "rotated upright; check that its boxes fit, the image size cannot tell"),
    ],
)
def test_the_effect_of_exif_rotation_is_reported(
    tmp_path: Path, orientation: int, annotated, action: str
):
    """Whether an image is rotated depends on its annotated size."""
    save_rotated(tmp_path / "a.jpg", orientation)
    (check,) = check_all(dataset_in(tmp_path, {"a.jpg": annotated}))
    assert [each.action for each in check.findings] == [action]


def test_samples_are_the_same_every_time(tmp_path: Path):
    """A sample has the requested size and no image twice."""
    for k in range(30):
        (tmp_path / f"{k}.png").touch()
    dataset = dataset_in(tmp_path, {f"{k}.png": (9, 9) for k in range(30)})
    chosen = sample(dataset, 7)
    assert len(set(chosen.tolist())) == 7
    assert chosen.tolist() == sorted(chosen.tolist()) == sample(dataset, 7).tolist()
    assert sample(dataset, None).tolist() == sample(dataset, 99).tolist() == list(range(30))


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image,
        lambda image: image.resize((480, 320), Image.Resampling.LANCZOS),
        lambda image: image.resize((40, 40), Image.Resampling.BOX),
        lambda image: image.point(lambda level: min(level + 3, 255)),
        lambda image: image.convert("P").convert("RGB"),
    ],
    ids=["same", "larger", "other aspect ratio", "brighter", "fewer colors"],
)
def test_changed_copies_are_similar(change):
    """An image is found again after resizing, recompression or a slight change."""
    others = [hash_image(pixels(photograph(seed)))[0] for seed in range(20)]
    (pair,) = find_similar_pairs([hash_image(pixels(change(photograph(7))))[0]], others)
    assert (pair.first, pair.second) == (0, 7)


def test_a_mirrored_copy_in_another_split_is_found(tmp_path: Path):
    """A copy that is not mirrored is not reported as mirrored."""
    for split in "tv":
        (tmp_path / split).mkdir()
    for seed in range(6):
        photograph(seed).save(tmp_path / "t" / f"{seed}.png")
    photograph(3).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "v" / "0.png")
    photograph(4).resize((48, 32)).save(tmp_path / "v" / "1.png")
    splits = {
        "t": dataset_in(tmp_path / "t", {f"{seed}.png": (96, 64) for seed in range(6)}),
        "v": dataset_in(tmp_path / "v", {"0.png": (96, 64), "1.png": (48, 32)}),
    }
    duplicates = find_near_duplicates(
        splits, {name: check_all(dataset, name) for name, dataset in splits.items()}
    )
    assert [(each.image, each.other, each.mirrored) for each in duplicates] == [
        (0, 3, True),
        (1, 4, False),
    ]
    assert "similar to 3.png in t, mirrored; " in duplicates[0].finding(splits).value


def test_different_images_are_not_similar():
    """Among 200 unrelated images there is no pair."""
    hashes = [hash_image(pixels(photograph(seed)))[0] for seed in range(200)]
    assert find_similar_pairs(hashes[:100], hashes[100:]) == []
    assert find_similar_pairs([], hashes) == find_similar_pairs(hashes, []) == []


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=6), st.integers(0, 2**64 - 1))
def test_the_distance_of_hashes_is_the_number_of_different_bits(words: list[int], other: int):
    gray = bytes(256)
    pairs = find_similar_pairs([ImageHash(word, gray) for word in words], [ImageHash(other, gray)])
    distance = {k: (word ^ other).bit_count() for k, word in enumerate(words)}
    near = {k: bits for k, bits in distance.items() if bits <= 6}
    assert {pair.first: pair.bits for pair in pairs} == near
    same = find_similar_pairs([ImageHash(other ^ 0b10101, gray)], [ImageHash(other, gray)])
    assert [pair.bits for pair in same] == [3]


def test_a_near_duplicate_in_another_split_is_found(tmp_path: Path):
    """Near duplicates within a split are not reported."""
    (tmp_path / "t").mkdir()
    (tmp_path / "v").mkdir()
    for seed in range(6):
        photograph(seed).save(tmp_path / "t" / f"{seed}.png")
    photograph(4).resize((192, 128)).save(tmp_path / "v" / "new.jpg", quality=70)
    photograph(99).save(tmp_path / "v" / "other.jpg")
    photograph(99).save(tmp_path / "v" / "copy.jpg")
    splits = {
        "train": dataset_in(tmp_path / "t", {f"{seed}.png": (96, 64) for seed in range(6)}),
        "val": dataset_in(
            tmp_path / "v", {"new.jpg": (192, 128), "other.jpg": (96, 64), "copy.jpg": (96, 64)}
        ),
    }
    (duplicate,) = find_near_duplicates(
        splits, {split: check_all(dataset, split) for split, dataset in splits.items()}
    )
    assert (duplicate.split, duplicate.image) == ("val", 0)
    assert (duplicate.other_split, duplicate.other) == ("train", 4)
    finding = duplicate.finding(splits)
    assert (finding.split, finding.file) == ("val", "new.jpg")
    assert finding.value.startswith("similar to 4.png in train")
