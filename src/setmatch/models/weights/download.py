"""The published weights: where they are, how to know them, and the classes they answer with."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError

from torch import Tensor

from setmatch.errors import WeightsError
from setmatch.files import cache_folder
from setmatch.structures.metadata import Categories


@dataclass(frozen=True)
class PublishedCheckpoint:
    """A published file; the name's eight hex digits open the SHA-256 of its content."""

    name: str
    license: str = "Apache-2.0"

    @property
    def url(self) -> str:
        """The address that the authors publish the file under."""
        return f"https://dl.fbaipublicfiles.com/detr/{self.name}"

    @property
    def digest(self) -> str:
        """The first eight hex digits of the file's SHA-256."""
        return self.name.removesuffix(".pth").rsplit("-", 1)[1]


PUBLISHED = {
    "detr_r50": PublishedCheckpoint("detr-r50-e632da11.pth"),
    "detr_r50_dc5": PublishedCheckpoint("detr-r50-dc5-f0fb7ef5.pth"),
    "detr_r101": PublishedCheckpoint("detr-r101-2c7b67e5.pth"),
    "detr_r101_dc5": PublishedCheckpoint("detr-r101-dc5-a2e86def.pth"),
    "detr_r50_panoptic": PublishedCheckpoint("detr-r50-panoptic-00ce5173.pth"),
    "detr_r50_dc5_panoptic": PublishedCheckpoint("detr-r50-dc5-panoptic-da08f1b1.pth"),
    "detr_r101_panoptic": PublishedCheckpoint("detr-r101-panoptic-40021d53.pth"),
    "detr_demo": PublishedCheckpoint("detr_demo-da2a99e9.pth"),
}

# fmt: off
COCO_NAMES = {
    1: "person", 2: "bicycle", 3: "car", 4: "motorcycle", 5: "airplane", 6: "bus", 7: "train",
    8: "truck", 9: "boat", 10: "traffic light", 11: "fire hydrant", 13: "stop sign",
    14: "parking meter", 15: "bench", 16: "bird", 17: "cat", 18: "dog", 19: "horse", 20: "sheep",
    21: "cow", 22: "elephant", 23: "bear", 24: "zebra", 25: "giraffe", 27: "backpack",
    28: "umbrella", 31: "handbag", 32: "tie", 33: "suitcase", 34: "frisbee", 35: "skis",
    36: "snowboard", 37: "sports ball", 38: "kite", 39: "baseball bat", 40: "baseball glove",
    41: "skateboard", 42: "surfboard", 43: "tennis racket", 44: "bottle", 46: "wine glass",
    47: "cup", 48: "fork", 49: "knife", 50: "spoon", 51: "bowl", 52: "banana", 53: "apple",
    54: "sandwich", 55: "orange", 56: "broccoli", 57: "carrot", 58: "hot dog", 59: "pizza",
    60: "donut", 61: "cake", 62: "chair", 63: "couch", 64: "potted plant", 65: "bed",
    67: "dining table", 70: "toilet", 72: "tv", 73: "laptop", 74: "mouse", 75: "remote",
    76: "keyboard", 77: "cell phone", 78: "microwave", 79: "oven", 80: "toaster", 81: "sink",
    82: "refrigerator", 84: "book", 85: "clock", 86: "vase", 87: "scissors", 88: "teddy bear",
    89: "hair drier", 90: "toothbrush",
}
COCO_STUFF_NAMES = {
    92: "banner", 93: "blanket", 95: "bridge", 100: "cardboard", 107: "counter", 109: "curtain",
    112: "door-stuff", 118: "floor-wood", 119: "flower", 122: "fruit", 125: "gravel",
    128: "house", 130: "light", 133: "mirror-stuff", 138: "net", 141: "pillow", 144: "platform",
    145: "playingfield", 147: "railroad", 148: "river", 149: "road", 151: "roof", 154: "sand",
    155: "sea", 156: "shelf", 159: "snow", 161: "stairs", 166: "tent", 168: "towel",
    171: "wall-brick", 175: "wall-stone", 176: "wall-tile", 177: "wall-wood",
    178: "water-other", 180: "window-blind", 181: "window-other", 184: "tree-merged",
    185: "fence-merged", 186: "ceiling-merged", 187: "sky-other-merged", 188: "cabinet-merged",
    189: "table-merged", 190: "floor-other-merged", 191: "pavement-merged",
    192: "mountain-merged", 193: "grass-merged", 194: "dirt-merged", 195: "paper-merged",
    196: "food-other-merged", 197: "building-other-merged", 198: "rock-merged",
    199: "wall-other-merged", 200: "rug-merged",
}
# fmt: on
COCO_SLOTS = Categories(
    tuple(range(91)), tuple(COCO_NAMES.get(class_index) for class_index in range(91))
)
COCO_PANOPTIC_SLOTS = Categories(
    tuple(range(250)),
    tuple((COCO_NAMES | COCO_STUFF_NAMES).get(class_index) for class_index in range(250)),
    stuff=frozenset(range(91, 250)),
)


def fetch(name: str) -> Path:
    """Return the published file for the model `name`, downloaded once and checked by its hash.

    Raises WeightsError that says what to fetch and where to put it when there is no network, and
    names the file when its content is not what was published.
    """
    from torch.hub import download_url_to_file

    published = PUBLISHED[name]
    path = cache_folder() / published.name
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            download_url_to_file(published.url, str(path), hash_prefix=published.digest)
        except (URLError, OSError, RuntimeError) as error:
            raise WeightsError(
                f"{name}: cannot download {published.url} ({error}); "
                f"fetch it elsewhere and put it at {path}"
            ) from None
    found = sha256_of(path)
    if not found.startswith(published.digest):
        raise WeightsError(
            f"{path}: its SHA-256 begins {found[:8]}, published is {published.digest}; "
            "delete the file, so that it is downloaded again"
        )
    return path


def fetch_torchvision(weights: Any, what: str, instead: str) -> dict[str, Tensor]:
    """Return the tensors of a member of torchvision's weights enums, downloaded once and checked.

    Raises WeightsError that says what to fetch and where to put it, or what to do `instead`, when
    there is no network.
    """
    from torch.hub import get_dir

    try:
        state: dict[str, Tensor] = weights.get_state_dict(progress=True, check_hash=True)
    except (URLError, OSError, RuntimeError) as error:
        file = weights.url.rsplit("/", 1)[1]
        raise WeightsError(
            f"{what}: cannot download {weights.url} ({error}); fetch it elsewhere and put it at "
            f"{get_dir()}/checkpoints/{file}, {instead}"
        ) from None
    return state


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
