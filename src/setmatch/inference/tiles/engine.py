"""An engine that sees each image whole and in tiles, around an engine that sees it once."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from setmatch.errors import ConfigError
from setmatch.inference.engines.base import Engine
from setmatch.inference.masks import detections_with_masks
from setmatch.inference.tiles.merge import best, cut_by_border, in_image, merged
from setmatch.inference.tiles.views import OVERLAP, Tiles, Tiling, View, views_of
from setmatch.losses.classification import ClassificationLoss
from setmatch.ops.image_size import evaluation_px, tile_side_px
from setmatch.structures.batch import Batch
from setmatch.structures.detections import Detections
from setmatch.structures.metadata import ModelCard
from setmatch.structures.outputs import ModelOutput
from setmatch.structures.packed_masks import PackedMasks

MOST_DETECTIONS = 1000  # of an image
VIEWS_AT_ONCE = 4
_LEAST_MASK_SCORE = 0.05  # masks of less are not computed; they would fill the memory


class TiledEngine(Engine):
    """Detects in images whole and in tiles, and merges what it finds.

    Images come to it in their own size; each view is resized as the model's images are. A model
    with a mask head gives the masks of detections, but no panoptic segments, and only for scores
    above 0.05.
    """

    def __init__(self, engine: Engine, tiling: Tiling) -> None:
        self.engine = engine
        self.tiling = tiling

    @property
    def card(self) -> ModelCard:
        """The card of the model, by which images keep their size."""
        card = self.engine.card
        return replace(card, preprocessing=replace(card.preprocessing, resizes=False))

    @property
    def class_loss(self) -> ClassificationLoss:
        """The classification loss of the model."""
        return self.engine.class_loss

    @property
    def num_queries(self) -> int:
        """The largest number of detections per image."""
        return MOST_DETECTIONS

    @property
    def default_threshold(self) -> float:
        """The score above which detections are shown by default."""
        return self.engine.default_threshold

    @property
    def has_masks(self) -> bool:
        """False: there are no predictions for an image as a whole."""
        return False

    @property
    def fixed_queries(self) -> bool:
        """False: a query of one tile has nothing to do with that of another."""
        return False

    def detect(self, batch: Batch, sizes_px: Sequence[tuple[int, int]]) -> ModelOutput:
        """Return the merged detections of each image, best first.

        The images have the `sizes_px` of the originals, without padding.
        """
        pairs = zip(batch.pixels, sizes_px, strict=True)
        found = [self._detect_image(image[:, :height, :width]) for image, (height, width) in pairs]
        return ModelOutput(found, None)

    def _detect_image(self, image: Float[Tensor, "3 H W"]) -> Detections:
        height, width = image.shape[1:]
        size_px = height, width
        views = views_of(size_px, self.tiling)
        parts = [part for group in self._batches(image, views) for part in self._detect(*group)]
        parts = [
            part[keep]
            for part, keep in zip(
                parts, best([part.scores for part in parts], MOST_DETECTIONS), strict=True
            )
        ]
        boxes = [in_image(part.xyxy_px, view) for part, view in zip(parts, views, strict=True)]
        is_cut = [
            cut_by_border(each, view, size_px) for each, view in zip(boxes, views, strict=True)
        ]
        xyxy_px, scores = torch.cat(boxes), torch.cat([part.scores for part in parts])
        classes = torch.cat([part.classes for part in parts])
        counts = torch.tensor([len(part) for part in parts], device=scores.device)
        seen_in = torch.arange(len(parts), device=scores.device).repeat_interleave(counts)
        kept = merged(xyxy_px, scores, classes, seen_in, torch.cat(is_cut))
        masks = None
        if parts[0].masks is not None:
            masks = _masks_in_image(parts, views, size_px, kept)
        return Detections(
            xyxy_px[kept], scores[kept], classes[kept], parts[0].categories, size_px, masks
        )

    def _batches(
        self, image: Float[Tensor, "3 H W"], views: Sequence[View]
    ) -> Iterator[tuple[list[View], Batch]]:
        """Yield the views in batches of one shape, in order: the whole image comes first, alone."""
        tiles = views[1:]
        groups = [list(views[:1])]
        groups += [
            list(tiles[first : first + VIEWS_AT_ONCE])
            for first in range(0, len(tiles), VIEWS_AT_ONCE)
        ]
        for group in groups:
            target_px = evaluation_px(group[0].size_px, self.engine.card.preprocessing)
            crops = torch.stack([image[:, v.y0 : v.y1, v.x0 : v.x1] for v in group])
            if crops.shape[-2:] != target_px:
                crops = F.interpolate(crops, target_px, mode="bilinear", antialias=True)
            yield group, Batch.from_images(list(crops))

    def _detect(self, views: Sequence[View], batch: Batch) -> list[Detections]:
        sizes_px = [view.size_px for view in views]
        output = self.engine.detect(batch, sizes_px)
        predictions = output.predictions
        if predictions is None or predictions.masks is None:
            return output.detections
        return detections_with_masks(self.engine, predictions, batch, sizes_px, _LEAST_MASK_SCORE)


def with_tiles(engine: Engine, tiles: Tiles, overlap: float = OVERLAP) -> Engine:
    """Return an engine that sees images in tiles of that many pixels; itself for None.

    "auto" chooses tiles as large as the images that the model takes, so that they are not resized.
    Raises ConfigError for values out of range.
    """
    if tiles is None:
        return engine
    if isinstance(tiles, str) and tiles != "auto":
        raise ConfigError(f"tiles {tiles!r}: give the side of a tile in pixels, or auto")
    side_px = tile_side_px(tiles, engine.card.preprocessing)
    return TiledEngine(engine, Tiling(side_px, overlap))


def _masks_in_image(
    parts: Sequence[Detections],
    views: Sequence[View],
    size_px: tuple[int, int],
    kept: Tensor,
) -> PackedMasks:
    """Return the masks of the kept detections, each at the place of its view in the image."""
    ends = torch.tensor([len(part) for part in parts]).cumsum(0).tolist()
    packed = []
    for part, view, end in zip(parts, views, ends, strict=True):
        assert part.masks is not None, "either all views have masks or none"
        first = end - len(part)
        chosen = kept[(kept >= first) & (kept < end)] - first
        canvas = torch.zeros(len(chosen), *size_px, dtype=torch.bool, device=kept.device)
        canvas[:, view.y0 : view.y1, view.x0 : view.x1] = part.masks[chosen].unpack()
        packed.append(PackedMasks.pack(canvas).bits)
    # Above, the masks come in the order of the views.
    seen_in = torch.searchsorted(torch.tensor(ends, device=kept.device), kept, right=True)
    back = seen_in.argsort(stable=True).argsort()
    return PackedMasks(torch.cat(packed)[back], size_px[1])
