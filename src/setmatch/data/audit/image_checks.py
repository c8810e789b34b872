"""Image files opened, some or all: which cannot be used, which are odd, which look alike."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from pathlib import Path

from PIL import Image

from setmatch.data.audit.checks import Finding
from setmatch.data.audit.mask_checks import drawn_findings
from setmatch.data.audit.near_duplicates import (
    ImageHash,
    SimilarPair,
    image_hashes,
    near_duplicates,
)
from setmatch.data.corrupt_files import PROBED, UNREADABLE_AT_MOST
from setmatch.data.dataset import DetectionDataset
from setmatch.data.image_io import read_image
from setmatch.data.splits import canonical
from setmatch.errors import DataError

SAMPLE = 300  # images opened in each split, unless all are
_READERS = 4  # threads: the decoders of Pillow run without the interpreter's lock
_EXIF_ORIENTATION = 0x0112
_SIDEWAYS = (5, 6, 7, 8)
_ANIMATED = ("GIF", "PNG", "WEBP")
_MODES = {  # of Pillow: what it is, and what becomes of it
    "1": ("black and white image", "read as RGB"),
    "L": ("gray image", "read as RGB with three equal channels"),
    "LA": ("gray image with transparency", "read as RGB; the transparency is dropped"),
    "P": ("image with a palette", "read as RGB"),
    "PA": ("image with a palette and transparency", "read as RGB; the transparency is dropped"),
    "RGBA": ("image with transparency", "read as RGB; the transparency is dropped"),
    "CMYK": ("image in CMYK, made for print", "read as RGB; its colors may look different"),
    "I": ("image of more than 8 bits a channel", "read with 8 bits"),
}


@dataclass(frozen=True)
class Picture:
    """What opening image number `image` told; without a `look` it cannot be used."""

    image: int
    findings: tuple[Finding, ...]
    look: ImageHash | None
    mirrored: ImageHash | None = None  # how it looks in a mirror

    @property
    def needs_mending(self) -> bool:
        """Say whether training, with masks or without, cannot use it."""
        return any(finding.severity == "mend" for finding in self.findings)


@dataclass(frozen=True)
class NearDuplicate:
    """Two pictures of different splits that look alike, and how many of 64 hash bits differ.

    `mirrored` says that the second shows the first as a mirror would.
    """

    split: str
    image: int
    other_split: str
    other: int
    bits: int
    mirrored: bool = False

    def finding(self, splits: Mapping[str, DetectionDataset]) -> Finding:
        """Return what there is to know about them."""
        name = splits[self.other_split].name(self.other)
        return Finding(
            "note",
            "looks like a picture of another split",
            "if it shows the same, delete one, or the AP is too good to be true",
            self.split,
            splits[self.split].name(self.image),
            value=f"like {name} of {self.other_split}{', mirrored' * self.mirrored}; "
            f"{self.bits} of 64 bits differ",
        )


def open_pictures(
    index: DetectionDataset, images: Sequence[int], split: str, on_picture: Callable[[], object]
) -> list[Picture]:
    """Open the named images of an index as training would, calling `on_picture` after each.

    What cannot be read becomes a finding, never an error.
    """
    opened = []
    with ThreadPoolExecutor(_READERS) as readers:
        for picture in readers.map(partial(_open, index, split), images):
            opened.append(picture)
            on_picture()
    unusable = sum(picture.needs_mending for picture in opened)
    looked_at = max(len(opened), min(len(index), PROBED))
    if canonical(split) not in ("val", "test") and unusable <= UNREADABLE_AT_MOST * looked_at:
        return [replace(each, findings=tuple(map(_left_out, each.findings))) for each in opened]
    return opened


def _left_out(finding: Finding) -> Finding:
    """Return a finding about one of so few pictures that training goes on without them."""
    if finding.severity != "mend":
        return finding
    done = "left out of training, which takes that for up to 1% of its images"
    with_masks = "with masks, " * finding.done.startswith("with masks")
    return replace(finding, severity="repaired", done=with_masks + done)


def alike(
    splits: Mapping[str, DetectionDataset], opened: Mapping[str, Sequence[Picture]]
) -> list[NearDuplicate]:
    """Return every opened picture that looks like one of an earlier split, with the closest one.

    Pictures in a mirror are alike too; pictures that were cropped are not found by their look.
    Such pictures leak what is to be measured into what is learned. The same file is no news here.
    """
    found = []
    for first, second in combinations(opened, 2):
        here, there = ([each for each in opened[split] if each.look] for split in (first, second))
        looks = [each.look for each in here if each.look]
        closest: dict[int, tuple[SimilarPair, bool]] = {}
        for mirrored in (True, False):  # the last to come is kept: pictures as they are
            others = [each.mirrored if mirrored else each.look for each in there]
            pairs = near_duplicates(looks, [look for look in others if look])
            closest |= {pair.second: (pair, mirrored) for pair in reversed(pairs)}
        for position in sorted(closest):
            pair, mirrored = closest[position]
            image, other = there[position].image, here[pair.first].image
            twins = NearDuplicate(second, image, first, other, pair.bits, mirrored)
            paths = (
                splits[second].path(twins.image).resolve(),
                splits[first].path(twins.other).resolve(),
            )
            if paths[0] != paths[1]:
                found.append(twins)
    return found


def _open(index: DetectionDataset, split: str, image: int) -> Picture:
    path = index.path(image)
    blank = Finding("note", "", "", split, index.name(image))
    try:
        pixels = read_image(path, index.size_px(image))
    except DataError as error:
        reason = str(error).removeprefix(f"{path}: ")
        evaluated = canonical(split) in ("val", "test")
        done = "evaluated as unanswered" if evaluated else "training would stop at it"
        unusable = replace(
            blank, severity="mend", what="image that cannot be used", done=done, value=reason
        )
        return Picture(image, (unusable,), None)
    size_px = (pixels.shape[1], pixels.shape[2])
    odd = _oddities(path, size_px, index.size_px(image))
    findings = [replace(blank, what=what, done=done, value=value) for what, done, value in odd]
    findings += drawn_findings(index, split, image)
    return Picture(image, tuple(findings), *image_hashes(pixels))


def _oddities(
    path: Path, size_px: tuple[int, int], annotated_px: tuple[int, int]
) -> Iterator[tuple[str, str, str]]:
    """Yield (what, done, value) from a file's header; `size_px` is how `read_image` read it."""
    with Image.open(path) as image:
        mode = "I" if image.mode.startswith("I") else image.mode
        if mode in _MODES:
            yield (*_MODES[mode], f"Pillow's mode {image.mode}")
        if image.format in _ANIMATED and getattr(image, "n_frames", 1) > 1:
            yield "animated image", "its first frame is read", ""
        orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
        stored_px = (image.height, image.width)
    if orientation in range(2, 9):
        value = f"EXIF orientation {orientation}, stored as {_sides(stored_px)}"
        if orientation in _SIDEWAYS and stored_px[0] != stored_px[1]:
            turned = size_px != stored_px
            done = "turned upright" if turned else "not turned: it was annotated as it is stored"
        else:
            done = "turned upright; see whether its boxes fit, the size cannot tell"
        yield "image turned by EXIF", done, value
    if size_px != annotated_px:
        value = f"is {_sides(size_px)}, annotated as {_sides(annotated_px)}"
        yield "image of another size than annotated", "its boxes are scaled along", value


def _sides(size_px: tuple[int, int]) -> str:
    height, width = size_px
    return f"{width}×{height}"
