"""Checks that open image files: unusable images, unusual formats, near duplicates across splits."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from pathlib import Path

from setmatch.data.audit.checks.mask_checks import MASKS_ONLY, check_masks
from setmatch.data.audit.checks.near_duplicates import (
    ImageHash,
    SimilarPair,
    find_similar_pairs,
    hash_image,
)
from setmatch.data.audit.findings import UNREADABLE_KIND, Finding
from setmatch.data.dataset import DetectionDataset
from setmatch.data.images.corrupt_files import PROBED, UNREADABLE_AT_MOST
from setmatch.data.images.decoding import read_depth, read_header
from setmatch.data.images.image_io import read_image
from setmatch.data.images.unreadable import UnreadableError, UnreadableFile
from setmatch.data.splits import canonical

SAMPLE_SIZE = 300  # images opened in each split by default
_THREADS = 4  # Pillow decodes without holding the interpreter lock
_FULL_DEPTH = 16  # bits
_ROTATED_BY_90 = (5, 6, 7, 8)
_ANIMATED = ("GIF", "PNG", "WEBP", "AVIF")
_MODES = {  # Pillow mode -> kind and action of the finding
    "1": ("black-and-white image", "read as RGB"),
    "L": ("grayscale image", "read as RGB with three equal channels"),
    "LA": ("grayscale image with transparency", "read as RGB; the transparency is dropped"),
    "P": ("image with a palette", "read as RGB"),
    "PA": ("image with a palette and transparency", "read as RGB; the transparency is dropped"),
    "RGBA": ("image with transparency", "read as RGB; the transparency is dropped"),
    "CMYK": ("CMYK image", "read as RGB; its colors may look different"),
}


@dataclass(frozen=True)
class ImageCheck:
    """Findings and hashes of image number `image`; one that is `unreadable` has no hash."""

    image: int
    findings: tuple[Finding, ...]
    hash: ImageHash | None
    mirrored_hash: ImageHash | None = None
    unreadable: UnreadableFile | None = None

    @property
    def has_errors(self) -> bool:
        """True if training, with masks or without, cannot use the image."""
        return any(finding.severity == "error" for finding in self.findings)


@dataclass(frozen=True)
class NearDuplicate:
    """Two similar images of different splits, and how many of 64 hash bits differ.

    `mirrored` is True if the images are similar after a horizontal flip.
    """

    split: str
    image: int
    other_split: str
    other: int
    bits: int
    mirrored: bool = False

    def finding(self, splits: Mapping[str, DetectionDataset]) -> Finding:
        """Return the finding that reports this pair."""
        name = splits[self.other_split].name(self.other)
        return Finding(
            "note",
            "near duplicate of an image in another split",
            "if both show the same scene, delete one, or AP comes out too high",
            self.split,
            splits[self.split].name(self.image),
            value=f"similar to {name} in {self.other_split}{', mirrored' * self.mirrored}; "
            f"{self.bits} of 64 hash bits differ",
        )


def check_images(
    dataset: DetectionDataset, images: Sequence[int], split: str, on_image: Callable[[], object]
) -> list[ImageCheck]:
    """Open images of a split as training would, calling `on_image` after each.

    An image that cannot be read is a finding, not an error.
    """
    checks = []
    with ThreadPoolExecutor(_THREADS) as threads:
        for check in threads.map(partial(_check_image, dataset, split), images):
            checks.append(check)
            on_image()
    unusable = sum(check.has_errors for check in checks)
    probed = max(len(checks), num_probed(split, dataset))
    if canonical(split) not in ("val", "test") and unusable <= UNREADABLE_AT_MOST * probed:
        return [replace(each, findings=tuple(map(_tolerated, each.findings))) for each in checks]
    return checks


def num_probed(split: str, dataset: DetectionDataset) -> int:
    """Return how many images are looked at before training, quickly."""
    return len(dataset) if canonical(split) in ("val", "test") else min(len(dataset), PROBED)


def _tolerated(finding: Finding) -> Finding:
    """Return a finding about an unusable image as training treats it: it skips up to 1%."""
    if finding.severity != "error":
        return finding
    action = "left out of training, which tolerates this for up to 1% of the images"
    prefix = MASKS_ONLY * finding.action.startswith(MASKS_ONLY)
    return replace(finding, severity="fixed", action=prefix + action)


def find_near_duplicates(
    splits: Mapping[str, DetectionDataset], checks: Mapping[str, Sequence[ImageCheck]]
) -> list[NearDuplicate]:
    """Return every checked image that is similar to one of an earlier split, with the closest one.

    Such images leak training data into the evaluation. Mirrored copies are found, crops are not.
    The same file in two splits is not reported here.
    """
    duplicates = []
    for first, second in combinations(checks, 2):
        here, there = ([each for each in checks[split] if each.hash] for split in (first, second))
        hashes = [each.hash for each in here if each.hash]
        closest: dict[int, tuple[SimilarPair, bool]] = {}
        for mirrored in (True, False):  # a match without mirroring replaces one with
            others = [each.mirrored_hash if mirrored else each.hash for each in there]
            pairs = find_similar_pairs(hashes, [each for each in others if each])
            closest |= {pair.second: (pair, mirrored) for pair in reversed(pairs)}
        for position in sorted(closest):
            pair, mirrored = closest[position]
            image, other = there[position].image, here[pair.first].image
            same_file = splits[second].path(image).resolve() == splits[first].path(other).resolve()
            if not same_file:
                duplicates.append(NearDuplicate(second, image, first, other, pair.bits, mirrored))
    return duplicates


def _check_image(dataset: DetectionDataset, split: str, image: int) -> ImageCheck:
    path = dataset.path(image)
    blank = Finding("note", "", "", split, dataset.name(image))
    try:
        pixels = read_image(path, dataset.size_px(image))
        size_px = (pixels.shape[1], pixels.shape[2])
        unusual = list(_check_header(path, size_px, dataset.size_px(image)))
    except UnreadableError as error:
        reason = str(error).removeprefix(f"{path}: ")
        evaluated = canonical(split) in ("val", "test")
        action = "its objects count as missed" if evaluated else "training would stop here"
        unusable = replace(
            blank, severity="error", kind=UNREADABLE_KIND, action=action, value=reason
        )
        return ImageCheck(image, (unusable,), None, unreadable=error.file)
    findings = [
        replace(blank, kind=kind, action=action, value=value) for kind, action, value in unusual
    ]
    findings += check_masks(dataset, split, image)
    return ImageCheck(image, tuple(findings), *hash_image(pixels))


def _check_header(
    path: Path, size_px: tuple[int, int], annotated_px: tuple[int, int]
) -> Iterator[tuple[str, str, str]]:
    """Yield (kind, action, value) of what is unusual; `size_px` is the size `read_image` gave."""
    header = read_header(path)
    if header.mode in _MODES:
        yield (*_MODES[header.mode], f"Pillow mode {header.mode}")
    yield from _check_depth(path)
    if header.format in _ANIMATED and header.animated:
        yield "animated image", "only its first frame is read", ""
    if header.format == "TIFF" and header.animated:
        yield "image with several pages", "only its first page is read", ""
    orientation, stored_px = header.orientation, header.size_px
    if orientation in range(2, 9):
        value = f"EXIF orientation {orientation}, stored as {_format_size(stored_px)}"
        if orientation in _ROTATED_BY_90 and stored_px[0] != stored_px[1]:
            rotated = size_px != stored_px
            action = "rotated upright" if rotated else "not rotated: annotated as it is stored"
        else:
            action = "rotated upright; check that its boxes fit, the image size cannot tell"
        yield "image rotated by EXIF", action, value
    if size_px != annotated_px:
        value = f"is {_format_size(size_px)}, annotated as {_format_size(annotated_px)}"
        yield "image size differs from the annotated size", "its boxes are scaled", value


def _check_depth(path: Path) -> Iterator[tuple[str, str, str]]:
    depth = read_depth(path)
    if depth is None:
        return
    kind, action = "image with more than 8 bits per channel", "read with 8 bits"
    if not depth.is_read_by_its_bits:
        kind = "color image with 16 bits per channel that uses few of them"
        action = "read as nearly black; multiply its values, or save it with 8 bits"
    elif depth.bits < _FULL_DEPTH:
        action = f"its {depth.bits} bits are read as 8; the others of 16 are not used"
    yield kind, action, f"brightest value {depth.brightest} of 65535"


def _format_size(size_px: tuple[int, int]) -> str:
    height, width = size_px
    return f"{width}×{height}"
