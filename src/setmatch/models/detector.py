"""The detector: the whole model on one screen."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from setmatch.models.backbone import Backbone
from setmatch.scoring import Scoring
from setmatch.structures import Batch, Card, Predictions, Stream


class Detector(nn.Module):
    """Backbone, embedding, encoder, queries, decoder, heads: image in, N slots out.

    `scoring` says how its logits are to be read; `card` all else that its answers need.
    """

    card: Card

    def __init__(
        self,
        backbone: Backbone,
        embed: nn.Module,
        encoder: nn.Module,
        queries: nn.Module,
        decoder: nn.Module,
        class_head: nn.Module,
        box_head: nn.Module,
        scoring: Scoring,
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

    def forward(self, batch: Batch) -> tuple[Stream, ...]:
        """Return the streams of predictions, "main" first; the same in training and evaluation."""
        (features,) = self.backbone(batch.pixels)
        cells = _valid_cells(batch, features)
        tokens, position = self.embed(features, cells)
        valid = cells.flatten(1) if batch.padded else None
        memory = self.encoder(tokens, position, valid)
        content, query_position = self.queries(memory)
        decoded = self.decoder(content, query_position, memory, position, valid)
        return (Stream("main", Predictions(self.class_head(decoded), self.box_head(decoded))),)

    @property
    def num_queries(self) -> int:
        """How many slots each answer of "main" has."""
        return self.queries.num_queries  # type: ignore[return-value]  # a plain int on each kind

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the parameters that are trained, the trunk's apart: it learns more slowly."""
        trunk = {id(parameter) for parameter in self.backbone.parameters()}
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return {
            "backbone": [p for p in trained if id(p) in trunk],
            "rest": [p for p in trained if id(p) not in trunk],
        }


def _valid_cells(batch: Batch, features: Float[Tensor, "B C h w"]) -> Bool[Tensor, "#B h w"]:
    """Say which cells lie on an image; one map stands for all images if none is padded."""
    size = features.shape[-2:]
    if not batch.padded:
        return torch.ones(1, *size, dtype=torch.bool, device=features.device)
    return F.interpolate(batch.valid[:, None].float(), size=size)[:, 0] > 0
