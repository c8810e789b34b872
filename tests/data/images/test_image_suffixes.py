"""Every image suffix counts: images are read, and those that nothing here decodes are named."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image, ImageFile, TiffImagePlugin

from fake_detectors import RedFinder
from setmatch.data.audit.audit import audit
from setmatch.data.convert import convert_dataset
from setmatch.data.images.heif import HEIF_SUFFIXES, register_heif
from setmatch.data.images.image_io import read_image
from setmatch.data.images.image_paths import SUFFIXES, is_undecoded
from setmatch.data.open import open_dataset
from setmatch.errors import DataError
from setmatch.inference.predict_folder import predict_folder

# Suffixes that Pillow registers and that are no images to detect objects in.
NO_IMAGES = {
    *(".bufr", ".grib", ".h5", ".hdf"),  # data of science; Pillow has no decoder
    *(".mpg", ".mpeg", ".pdf", ".palm"),  # not decoded either
    *(".fit", ".gbr", ".iim", ".ps"),  # mostly of other formats: tracks of runners, circuit boards
}
READ = [suffix for suffix in SUFFIXES if not is_undecoded(f"a{suffix}")]
NOT_READ = [suffix for suffix in SUFFIXES if is_undecoded(f"a{suffix}")]


@pytest.fixture(autouse=True)
def no_heif(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As on a machine without a library for HEIC images."""
    for name in ("pi_heif", "pillow_heif"):
        monkeypatch.setitem(sys.modules, name, None)
    register_heif.cache_clear()
    yield
    register_heif.cache_clear()


def write(path: Path, color: str = "red") -> None:
    image = Image.new("RGB", (96, 64), color)
    form = Image.registered_extensions().get(path.suffix.lower(), "PNG")
    image.save(path, form if form in ("JPEG", "MPO", "TIFF", "PPM", "JPEG2000", "TGA") else "PNG")


def yolo(root: Path, suffixes: list[str], unlabeled: tuple[str, ...] = ()) -> Path:
    (root / "images").mkdir(parents=True)
    (root / "labels").mkdir()
    (root / "data.yaml").write_text("train: images\nnames: [red]\n")
    for number, suffix in enumerate(suffixes):
        path = root / f"images/{number}{suffix}"
        write(path) if suffix in READ else path.write_bytes(b"of an unknown format")
        (root / f"labels/{number}.txt").write_text("0 0.5 0.5 0.25 0.25\n")
    for name in unlabeled:
        (root / "images" / name).write_bytes(b"of an unknown format")
    return root


def test_all_suffixes_of_pillow_count():
    Image.init()
    refused = {suffix for suffix, form in Image.EXTENSION.items() if form in ("EPS", "WMF")}
    assert {*Image.EXTENSION} - refused - NO_IMAGES <= {*READ}
    assert not {*READ} & NO_IMAGES
    assert len({*SUFFIXES}) == len(SUFFIXES)


@pytest.mark.parametrize("change", [str.lower, str.upper])
def test_a_folder_of_images_is_read_whatever_their_suffixes(tmp_path: Path, change):
    (tmp_path / "in").mkdir()
    for suffix in SUFFIXES:
        path = tmp_path / f"in/of {suffix[1:]}{change(suffix)}"
        write(path) if suffix in READ else path.write_bytes(b"of an unknown format")
    (tmp_path / "in/notes.txt").write_text("no image")
    summary = predict_folder(RedFinder(), [tmp_path / "in"], tmp_path / "out", progress=False)
    assert summary.images == len(READ)
    named = {path.suffix.lower(): problem for path, problem in summary.failed}
    assert {*named} == {*NOT_READ}
    for suffix, problem in named.items():
        assert f"nothing here decodes {change(suffix)} files" in problem
        assert ("pi-heif" in problem) == (suffix in HEIF_SUFFIXES)


def test_the_content_counts_not_the_suffix(tmp_path: Path):
    """Phones and messengers call a JPEG .heic."""
    write(tmp_path / "a.jpg")
    shutil.move(tmp_path / "a.jpg", tmp_path / "a.heic")
    assert read_image(tmp_path / "a.heic").shape == (3, 64, 96)


@pytest.mark.parametrize("suffix", [".jfif", ".JPE", ".mpo", ".tga", ".jp2", ".pnm"])
def test_a_data_set_of_any_suffix_is_read(tmp_path: Path, suffix: str):
    root = yolo(tmp_path, [suffix.lower()] * 3)
    (root / "data.yaml").write_text("train: images\nval: images\nnames: [red]\n")
    for path in (root / "images").iterdir():
        path.rename(path.with_suffix(suffix))
    assert len(open_dataset(root, "train").file_names()) == 3


@pytest.mark.parametrize("suffix", NOT_READ)
def test_a_data_set_that_nothing_decodes_is_refused_with_the_reason(tmp_path: Path, suffix: str):
    with pytest.raises(DataError, match=rf"0\{suffix}.*; convert them to JPEG or PNG"):
        open_dataset(yolo(tmp_path / "labeled", [suffix] * 3), "train")
    root = yolo(tmp_path / "unlabeled", [], (f"a{suffix}", f"b{suffix}"))
    (root / "labels/other.txt").write_text("0 0.5 0.5 0.25 0.25\n")
    with pytest.raises(DataError, match=rf"decodes its 2 image files, such as a\{suffix}; conv"):
        open_dataset(root, "train")


@pytest.mark.parametrize("suffix", [".heic", ".dng", ".jxl"])
def test_files_that_nothing_decodes_are_counted_and_named(tmp_path: Path, suffix: str):
    """Raw files beside the images that were made of them, and such without labels."""
    pairs = tuple(f"{number}{suffix}" for number in range(10))
    root = yolo(tmp_path, [".jpg"] * 30, (*pairs, f"alone{suffix}"))
    dataset = open_dataset(root, "train")
    assert "11 of 41 images are left out" in " ".join(dataset.notes)
    (kind,) = {each.kind for each in audit(root).findings if "decodes" in each.kind}
    named = {each.file for each in audit(root).findings if each.kind == kind}
    assert named == {*pairs, f"alone{suffix}"}
    conversion = convert_dataset(root, tmp_path / "to", "coco")
    assert "11 of 41 images are left out" in " ".join(conversion.notes)
    assert sum(conversion.images.values()) == 30


@pytest.mark.parametrize("suffix", [".dng", ".NEF", ".tif"])
@pytest.mark.parametrize("tag", [254, 50706])
def test_a_preview_in_a_raw_file_is_no_image(tmp_path: Path, suffix: str, tag: int):
    """Boxes found in a thumbnail would be in its pixels."""
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[tag] = 1
    path = tmp_path / f"a{suffix}"
    Image.new("RGB", (160, 120)).save(path, "TIFF", tiffinfo=tags)
    with pytest.raises(DataError, match=r"preview of a camera's raw file|nothing here decodes"):
        read_image(path)


@pytest.mark.parametrize("library", ["pi_heif", "pillow_heif"])
def test_heic_is_read_where_a_library_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str
):
    """With a decoder that takes any such file for a red image."""

    class Heif(ImageFile.ImageFile):
        format = "HEIF"

        def _open(self) -> None:
            self._size, self._mode, self.tile = (96, 64), "RGB", []
            self.im = Image.new("RGB", (96, 64), "red").im

        def load(self) -> object:
            return self.im.pixel_access(True)

    module = ModuleType(library)
    module.register_heif_opener = lambda: Image.register_open(
        "HEIF", Heif, lambda prefix: prefix[4:12] == b"ftypheic"
    )
    monkeypatch.setitem(sys.modules, library, module)
    monkeypatch.setattr(Image, "ID", [*Image.ID])
    monkeypatch.setattr(Image, "OPEN", {**Image.OPEN})
    register_heif.cache_clear()
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x20ftypheic" + bytes(40))
    assert np.array_equal(read_image(tmp_path / "a.heic")[:, 0, 0], [255, 0, 0])
    assert not is_undecoded("a.HEIC")
    assert is_undecoded("a.dng")
