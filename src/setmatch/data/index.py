"""A data set's annotations in flat arrays: small, quick to open, shared by all worker processes."""

from collections import Counter
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int32, Int64
from numpy.typing import NDArray

from setmatch.errors import DataError
from setmatch.structures import Categories, Target


@dataclass(frozen=True)
class Repair:
    """Something odd in an annotation file, and what was done about it.

    `file` is the image's name ("" when the whole file is meant), `annotation` its id in the file.
    """

    file: str
    annotation: int | None
    value: str
    done: str


@dataclass(frozen=True, eq=False)
class Index:
    """Images and their annotations, grouped by image; N images, A annotations.

    Annotations of image i are rows `offsets[i]` to `offsets[i + 1]`, boxes as the file has them:
    crowds and boxes without area are here for the evaluation, but never in `target`. There is no
    Python object for an image or box, because forked workers would copy each as they count
    references to it.
    """

    source: Path
    images: Path
    categories: Categories
    image_ids: Int64[NDArray[np.int64], " N"]
    sizes_px: Int32[NDArray[np.int32], "N 2"]  # height, width
    names: bytes  # all file names, UTF-8
    name_offsets: Int64[NDArray[np.int64], " N+1"]
    offsets: Int64[NDArray[np.int64], " N+1"]
    xywh_px: Float64[NDArray[np.float64], "A 4"]
    area_px: Float64[NDArray[np.float64], " A"]
    slots: Int32[NDArray[np.int32], " A"]
    crowd: Bool[NDArray[np.bool_], " A"]
    annotation_ids: Int64[NDArray[np.int64], " A"]
    repairs: tuple[Repair, ...] = ()

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def nbytes(self) -> int:
        """Bytes that the images and annotations take."""
        columns = (getattr(self, field.name) for field in fields(self))
        arrays = sum(column.nbytes for column in columns if isinstance(column, np.ndarray))
        return arrays + len(self.names)

    @property
    def repair_counts(self) -> dict[str, int]:
        """How often each kind of repair was made."""
        return dict(Counter(repair.done for repair in self.repairs))

    def name(self, image: int) -> str:
        """Return the file name of image number `image`, as the annotation file has it."""
        start, stop = self.name_offsets[image], self.name_offsets[image + 1]
        return self.names[start:stop].decode()

    def path(self, image: int) -> Path:
        """Return where image number `image` lies."""
        return self.images / self.name(image)

    def size_px(self, image: int) -> tuple[int, int]:
        """Return the annotated (height, width) of image number `image`."""
        height, width = self.sizes_px[image].tolist()
        return height, width

    def target(self, image: int) -> Target:
        """Return what to learn from image number `image`: no crowds, boxes clipped to the image.

        Boxes are fractions of the image; those that keep no area are left out.
        """
        rows = slice(self.offsets[image], self.offsets[image + 1])
        size = self.sizes_px[image, ::-1].astype(np.float64)
        low, extent = self.xywh_px[rows, :2], self.xywh_px[rows, 2:]
        high = np.clip((low + extent) / size, 0, 1)
        low = np.clip(low / size, 0, 1)
        keep = ~self.crowd[rows] & (high > low).all(axis=1)
        cxcywh = np.concatenate([(low + high) / 2, high - low], axis=1)[keep]
        return Target(
            torch.from_numpy(self.slots[rows][keep].astype(np.int64)),
            torch.from_numpy(cxcywh.astype(np.float32)),
        )


def open_dataset(data: str | Path, split: str) -> Index:
    """Open a data set: a folder in a known layout, or a COCO JSON file (then `split` is ignored).

    Raises DataError with what was looked for and what was found.
    """
    # Imported here, because every format builds an Index and so imports this file.
    from setmatch.data.coco import read_coco
    from setmatch.data.layout import find_split

    path = Path(data)
    if path.is_dir():
        return read_coco(find_split(path, split)[0])
    if path.is_file():
        return read_coco(path)
    raise DataError(f"{path}: no such file or folder; give a data set's folder or its COCO JSON")
