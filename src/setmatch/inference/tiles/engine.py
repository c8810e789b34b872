"""An engine that sees each image whole and in tiles, around an engine that sees it once."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from setmatch.errors import ConfigError
from setmatch.inference.engines.base import Engine
from setmatch.inference.engines.checked import sound, sound_output
from setmatch.inference.masks import detections_with_masks
from setmatch.inference.tiles.merge import best, cut_by_border, merged
from setmatch.inference.tiles.views import OVERLAP, Tiles, Tiling, View, require_overlap, views_of
from setmatch.losses.classification import ClassificationLoss
from setmatch.ops.image_size import evaluation_px, tile_side_px
from setmatch.structures.batch import Batch
from setmatch.structures.detections import Detections
from setmatch.structures.metadata import ModelCard
from setmatch.structures.outputs import ModelOutput
from setmatch.structures.packed_masks import PackedMasks

MOST_DETECTIONS = 1000  # of an image
PIXELS_AT_ONCE = 4 * 640 * 640  # of the views in a batch
MOST_AT_ONCE = 16  # views; more are not faster
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

    @sound
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
        scores = torch.cat([part.scores for part in parts])
        counts = torch.tensor([len(part) for part in parts], device=scores.device)
        seen_in = torch.arange(len(parts), device=scores.device).repeat_interleave(counts)
        chosen = best(scores, MOST_DETECTIONS)
        scores, seen_in = scores[chosen], seen_in[chosen]
        classes = torch.cat([part.classes for part in parts])[chosen]
        corners = torch.tensor([(v.x0, v.y0, v.x1, v.y1) for v in views], device=scores.device)
        view_px = corners[seen_in]
        xyxy_px = torch.cat([part.xyxy_px for part in parts])[chosen] + view_px[:, [0, 1, 0, 1]]
        is_cut = cut_by_border(xyxy_px, view_px, size_px)
        kept = merged(xyxy_px, scores, classes, seen_in, is_cut)
        masks = None
        if parts[0].masks is not None:
            masks = _masks_in_image(parts, views, size_px, chosen[kept])
        return Detections(
            xyxy_px[kept], scores[kept], classes[kept], parts[0].categories, size_px, masks
        )

    def _batches(
        self, image: Float[Tensor, "3 H W"], views: Sequence[View]
    ) -> Iterator[tuple[list[View], Batch]]:
        """Yield the views in batches of one shape, in order: the whole image comes first, alone."""
        preprocessing = self.engine.card.preprocessing
        tiles, at_once = views[1:], 1
        if tiles:
            at_once = views_at_once(evaluation_px(tiles[0].size_px, preprocessing))
        groups = [list(views[:1])]
        groups += [list(tiles[first : first + at_once]) for first in range(0, len(tiles), at_once)]
        for group in groups:
            target_px = evaluation_px(group[0].size_px, preprocessing)
            crops = torch.stack([image[:, v.y0 : v.y1, v.x0 : v.x1] for v in group])
            if crops.shape[-2:] != target_px:
                crops = F.interpolate(crops, target_px, mode="bilinear", antialias=True)
            valid = crops.new_ones(crops[:, 0].shape, dtype=torch.bool)
            yield group, Batch(crops, valid, padded=False)

    def _detect(self, views: Sequence[View], batch: Batch) -> list[Detections]:
        sizes_px = [view.size_px for view in views]
        output = sound_output(self.engine, batch, sizes_px)
        predictions = output.predictions
        if predictions is None or predictions.masks is None:
            return output.detections
        return detections_with_masks(self.engine, predictions, batch, sizes_px, _LEAST_MASK_SCORE)


def with_tiles(engine: Engine, tiles: Tiles, overlap: float = OVERLAP) -> Engine:
    """Return an engine that sees images in tiles of that many pixels; itself for None.

    "auto" chooses tiles as large as the images that the model takes, so that they are not resized.
    Raises ConfigError for values out of range.
    """
    require_overlap(overlap)
    if tiles is None:
        return engine
    if isinstance(tiles, str) and tiles != "auto":
        raise ConfigError(f"tiles {tiles!r}: give the side of a tile in pixels, or auto")
    side_px = tile_side_px(tiles, engine.card.preprocessing)
    return TiledEngine(engine, Tiling(side_px, overlap))


def views_at_once(size_px: tuple[int, int]) -> int:
    """Return how many views of this (height, width) to detect in together: small ones, more."""
    height, width = size_px
    return max(1, min(MOST_AT_ONCE, PIXELS_AT_ONCE // (height * width)))


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
