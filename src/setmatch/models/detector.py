"""The detectors: the whole model on one screen, once as published and once multi-scale."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from setmatch.losses.base import Objective
from setmatch.losses.classification import Scoring
from setmatch.models.denoising import Denoising, Noisy
from setmatch.models.heads import ClassHead
from setmatch.models.hybrid import HybridEncoder, Memory
from setmatch.models.masks import AttentionMaskHead, every_mask
from setmatch.models.pixel_masks import PixelMaskHead
from setmatch.models.queries import TopKQueries
from setmatch.models.refine import RefiningDecoder
from setmatch.models.relations import Peers
from setmatch.structures.batch import Batch, Target
from setmatch.structures.detections import Detections
from setmatch.structures.metadata import Card, Categories
from setmatch.structures.outputs import MasksOf, Predictions, Stream

SizesPx = Sequence[tuple[int, int]]  # height, width
Reading = Callable[[Predictions, Scoring, Categories, SizesPx], list[Detections]]

NOWHERE = -20.0  # a logit so low that neither loss nor gradient comes of it


class Detector(nn.Module):
    """Image in, N slots out.

    `scoring` says how the logits are to be read, `card` all else that the answers need, and
    `num_queries` how many slots an answer has.
    """

    card: Card
    scoring: Scoring
    num_queries: int
    backbone: nn.Module
    mask_head: nn.Module | None

    def forward(self, batch: Batch, targets: Sequence[Target] = ()) -> tuple[Stream, ...]:
        """Return the streams of predictions, "main" first; the same in training and evaluation.

        A model in training may make further streams from `targets`, to learn from.
        """
        raise TypeError("a detector is one of the compositions below")

    @property
    def shown(self) -> float:
        """The score above which an answer is shown, unless a user says otherwise."""
        return self.scoring.shown

    def objective(self, set_loss: Callable[[Scoring], Objective]) -> Objective:
        """Return what training minimises: `set_loss`, unless a model brings its own losses."""
        return set_loss(self.scoring)

    def answers(self, batch: Batch, sizes_px: SizesPx, reading: Reading) -> list[Detections]:
        """Return what is found in each image, best first, in pixels of `sizes_px`.

        `reading` reads a set of predictions, unless a model reads its answers itself.
        """
        main = self(batch)[0]
        return reading(main.predictions, self.scoring, self.card.categories, sizes_px)

    def _with_masks(self, predictions: Predictions, masks_of: MasksOf) -> Stream:
        """Return the stream "main": with all masks, or in training with what makes them."""
        if self.training:
            return Stream("main", predictions, masks_of=masks_of)
        _, images, queries, _ = predictions.logits.shape
        masks = every_mask(masks_of, images, queries, predictions.logits.device)
        return Stream("main", replace(predictions, masks=masks))

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the parameters that are trained, the trunk's apart: it learns more slowly."""
        return trunk_apart({"rest": trained(self)}, self.backbone)


class GlobalDetector(Detector):
    """DETR: backbone, embedding, encoder, queries, decoder, heads (arXiv 2005.12872)."""

    def __init__(
        self,
        backbone: nn.Module,
        embed: nn.Module,
        encoder: nn.Module,
        queries: nn.Module,
        decoder: nn.Module,
        class_head: nn.Module,
        box_head: nn.Module,
        scoring: Scoring,
        num_queries: int,
        mask_head: AttentionMaskHead | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.embed = embed
        self.encoder = encoder
        self.queries = queries
        self.decoder = decoder
        self.class_head = class_head
        self.box_head = box_head
        self.scoring = scoring
        self.num_queries = num_queries
        self.mask_head = mask_head

    def forward(self, batch: Batch, targets: Sequence[Target] = ()) -> tuple[Stream, ...]:
        """Return the one stream "main": DETR makes nothing of the targets."""
        levels = self.backbone(batch.pixels)
        features = levels[-1]
        cells = _valid_cells(batch, features)
        tokens, position = self.embed(features, cells)
        allowed = cells.flatten(1)[:, None, None] if batch.padded else None
        memory = self.encoder(tokens, position, allowed)
        content, query_position = self.queries(memory)
        decoded = self.decoder(content, query_position, memory, position, allowed)
        predictions = Predictions(self.class_head(decoded), self.box_head(decoded))
        if self.mask_head is None:
            return (Stream("main", predictions),)
        masks_of = self.mask_head(decoded[-1], memory, tokens, levels, allowed)
        return (self._with_masks(predictions, masks_of),)


class ScratchDetector(GlobalDetector):
    """The same, to be learnt from nothing: matrices are told apart, so that Muon can have them."""

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return weight matrices that lie between hidden features, and all the rest."""
        last = (self.class_head, *list(self.box_head.modules())[-1:])
        return _matrices_apart(self, last)


class MultiScaleDetector(Detector):
    """Trunk, hybrid encoder, queries chosen by the image, a decoder that refines their boxes.

    In training, "encoder" trains the choice of queries, and "denoising" spoilt targets.
    """

    def __init__(
        self,
        backbone: nn.Module,
        encoder: HybridEncoder,
        queries: TopKQueries,
        denoising: Denoising,
        decoder: RefiningDecoder,
        scoring: Scoring,
        mask_head: PixelMaskHead | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.encoder = encoder
        self.queries = queries
        self.denoising = denoising
        self.decoder = decoder
        self.scoring = scoring
        self.num_queries = queries.num_queries
        self.mask_head = mask_head

    def forward(self, batch: Batch, targets: Sequence[Target] = ()) -> tuple[Stream, ...]:
        """Return "main"; in training also "encoder", and "denoising" made from the targets."""
        levels = self.backbone(batch.pixels)
        memory = self.encoder(levels[-len(self.encoder.project) :], batch)
        chosen = self.queries(memory)
        content, cxcywh = chosen.content, chosen.cxcywh.detach()
        if not self.training:
            logits, boxes, content = self.decoder(content, cxcywh, memory, Peers.in_order(content))
            return (self._main(logits, boxes, content, memory, levels[0]),)
        noisy = self.denoising(targets, memory.extent)
        logits, boxes, content = self.decoder(
            torch.cat([noisy.content.to(content.dtype), content], dim=1),
            torch.cat([noisy.cxcywh, cxcywh], dim=1),
            memory,
            _beside(noisy, Peers.in_order(content)),
        )
        spoilt = noisy.real.shape[1]
        mended = torch.where(noisy.real[..., None], logits[:, :, :spoilt], NOWHERE)
        first = _unpadded(chosen.cxcywh, memory.extent)
        return (
            self._main(
                logits[:, :, spoilt:], boxes[:, :, spoilt:], content[:, spoilt:], memory, levels[0]
            ),
            Stream("encoder", Predictions(chosen.logits[None], first[None])),
            Stream(
                "denoising",
                Predictions(mended, _unpadded(boxes[:, :, :spoilt], memory.extent)),
                noisy.assignment,
                noisy.groups,
            ),
        )

    def _main(
        self,
        logits: Float[Tensor, "L B Q C"],
        boxes: Float[Tensor, "L B Q 4"],
        content: Float[Tensor, "B Q D"],
        memory: Memory,
        finest: Float[Tensor, "B _ h w"],
    ) -> Stream:
        predictions = Predictions(logits, _unpadded(boxes, memory.extent))
        if self.mask_head is None:
            return Stream("main", predictions)
        return self._with_masks(predictions, self.mask_head(content, boxes[-1], memory, finest))

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return weight matrices that lie between hidden features, and all the rest.

        The first are what Muon is for; first convolution, last layers of heads, embeddings and what
        places sampling points are not (see train/muon.py).
        """
        placing = [
            module
            for name, module in self.named_modules()
            if isinstance(module, ClassHead) or name.rsplit(".", 1)[-1] in ("last", "offsets")
        ]
        return _matrices_apart(self, placing)


class PretrainedMultiScaleDetector(MultiScaleDetector):
    """The same on a trunk that may have learnt already, which Muon's large steps would undo."""

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the trunk's parameters, and of the others matrices and the rest."""
        return trunk_apart(super().parameter_groups(), self.backbone)


def trained(module: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of a module that are trained."""
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def trunk_apart(
    groups: Mapping[str, Sequence[nn.Parameter]], trunk: nn.Module
) -> dict[str, list[nn.Parameter]]:
    """Return the trunk's parameters as a group "backbone", and the groups without them."""
    own = {id(parameter) for parameter in trunk.parameters()}
    others = {name: [p for p in group if id(p) not in own] for name, group in groups.items()}
    return {"backbone": trained(trunk), **others}


def _matrices_apart(model: Detector, special: Sequence[nn.Module]) -> dict[str, list[nn.Parameter]]:
    """Return the matrices between hidden features, and all the rest.

    First convolution, embeddings and what belongs to `special` modules are of the rest.
    """
    embeddings = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    kept = {id(p) for module in (*special, *embeddings) for p in module.parameters()}
    kept.add(id(next(model.backbone.parameters())))
    hidden = [p for p in trained(model) if p.ndim >= 2 and id(p) not in kept]
    chosen = {id(parameter) for parameter in hidden}
    return {"matrices": hidden, "rest": [p for p in trained(model) if id(p) not in chosen]}


def _valid_cells(batch: Batch, features: Float[Tensor, "B C h w"]) -> Bool[Tensor, "#B h w"]:
    """Say which cells lie on an image; one map stands for all images if none is padded."""
    size = features.shape[-2:]
    if not batch.padded:
        return torch.ones(1, *size, dtype=torch.bool, device=features.device)
    return F.interpolate(batch.valid[:, None].float(), size=size)[:, 0] > 0


def _unpadded(cxcywh: Float[Tensor, "*n B Q 4"], extent: Float[Tensor, "B 2"]) -> Tensor:
    """Turn fractions of the canvas into fractions of each image."""
    return cxcywh / extent.repeat(1, 2)[:, None]


def _beside(noisy: Noisy, peers: Peers) -> Peers:
    """Let only its own group look at a spoilt query, so that no target leaks into an answer."""
    spoilt, queries = len(noisy.together), len(peers.before)
    allowed = noisy.together.new_ones(spoilt + queries, spoilt + queries)
    allowed[:spoilt, :spoilt] = noisy.together
    allowed[spoilt:, :spoilt] = False
    return Peers(allowed, F.pad(peers.before, (spoilt, 0, spoilt, 0)))
