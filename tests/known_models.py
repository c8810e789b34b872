"""Models whose attention is known, because their weights are set by hand."""

from typing import Any

import torch
from PIL import Image
from torch import nn

from setmatch.models.detr.model import DETR
from setmatch.models.registry import build
from setmatch.models.setmatch.model import SetMatchDetector
from setmatch.structures.metadata import Categories, ModelCard, Preprocessing

NAMES = Categories((1, 2), ("cat", "dog"))
ROWS, COLUMNS = 3, 5
SEEN = Preprocessing(ROWS * 32, COLUMNS * 32)  # so that a cell is 32 pixels
CELLS = (7, 0, 13, 4)  # what query 0, 1, 2, 3 looks at
QUERIES = len(CELLS)
SHARP = 200.0  # makes the softmax choose

# What each query answers after each of the two layers, far enough apart to point at.
BOXES = torch.tensor(
    [
        [[0.1, 0.2, 0.1, 0.2], [0.4, 0.2, 0.2, 0.2], [0.7, 0.2, 0.1, 0.3], [0.2, 0.7, 0.3, 0.3]],
        [[0.2, 0.3, 0.2, 0.3], [0.5, 0.3, 0.2, 0.3], [0.8, 0.3, 0.2, 0.3], [0.4, 0.8, 0.5, 0.2]],
    ]
)


class SaidBeforehand(nn.Module):
    """A head that answers the same whatever it is asked."""

    def __init__(self, answer: torch.Tensor) -> None:
        super().__init__()
        self.answer = answer  # L Q n

    def forward(self, decoded: torch.Tensor) -> torch.Tensor:
        return self.answer[:, None].expand(-1, decoded.shape[1], -1, -1)


def picture() -> Image.Image:
    """A gray picture of the size that the models see."""
    return Image.new("RGB", (COLUMNS * 32, ROWS * 32), (150, 150, 150))


def mirrored(cell: int) -> int:
    """The cell on the other side of the picture's middle."""
    return ROWS * COLUMNS - 1 - cell


def seeing(encoder_layers: int = 1) -> DETR:
    """Every place looks at its mirror image, every query listens to the next one.

    In the first decoder layer query q looks at CELLS[q], in the second everywhere alike. Tokens and
    the content of queries are zero, so that positions alone decide who looks where.
    """
    shape = {
        "dim": 64,
        "heads": 1,
        "ffn_dim": 8,
        "num_queries": QUERIES,
        "encoder_layers": encoder_layers,
        "decoder_layers": 2,
    }
    torch.manual_seed(0)
    model = build(ModelCard("detr_r18_tiny", shape, NAMES, SEEN))
    assert isinstance(model, DETR)
    for part in (model.embed, model.encoder, model.decoder):
        for name, parameter in part.named_parameters():
            if "norm" not in name:
                nn.init.zeros_(parameter)
    embed: Any = model.embed
    position = embed.position(torch.ones(1, ROWS, COLUMNS, dtype=torch.bool))[0].flatten(1).T
    queries: Any = model.queries
    queries.embedding.weight.data.copy_(position[list(CELLS)])
    for layer in _layers(model.encoder):
        _look(layer.self_attention, position, position.flip(0))
    first, second = _layers(model.decoder)
    asking = position[list(CELLS)]
    _look(first.cross_attention, asking, asking)
    for layer in (first, second):
        _look(layer.self_attention, asking, asking.roll(-1, 0))
    logits = torch.full((2, QUERIES, 3), -5.0)
    for query in range(QUERIES):
        logits[:, query, query % 2] = 3.0 - query / 2
    model.box_head, model.class_head = SaidBeforehand(BOXES), SaidBeforehand(logits)
    return model


def sampling(score: float = 2.0) -> SetMatchDetector:
    """A multi-scale model with random weights whose sampling points are set by hand.

    Head h looks (h + 1) / 4 boxes to the right of its box's middle, and its points, counted through
    the levels, each a quarter box higher and heavier than the one before. Boxes move a little.
    """
    shape = {"dim": 32, "heads": 2, "ffn_dim": 8, "num_queries": 6, "denoising_queries": 4}
    torch.manual_seed(3)  # whose first query looks at the middle of the picture
    model = build(ModelCard("setmatch_n", {**shape, "points": 2}, NAMES, SEEN))
    assert isinstance(model, SetMatchDetector)
    for layer in _layers(model.decoder):
        eyes = layer.cross_attention
        offsets = torch.zeros(eyes.heads, eyes.levels, eyes.points, 2)
        offsets[..., 0] = torch.arange(1, eyes.heads + 1)[:, None, None] / 2
        number = torch.arange(float(eyes.levels * eyes.points)).view(eyes.levels, eyes.points)
        offsets[..., 1] = -number / 2
        eyes.offsets.bias.data.copy_(offsets.flatten())
        eyes.attention.bias.data.copy_(number.flatten().repeat(eyes.heads))
    for head in model.decoder.class_heads:
        head.bias.data.fill_(score)
    for step in model.decoder.box_steps:
        step.last.bias.data.copy_(torch.tensor([0.1, -0.1, 0.1, 0.2]))
    return model


def unsure() -> DETR:
    """The seeing model, but convinced that nothing is there."""
    model = seeing()
    model.class_head = SaidBeforehand(torch.tensor([-5.0, -6.0, 3.0]).expand(2, QUERIES, 3))
    return model


def _look(attention: Any, asking: torch.Tensor, wanted: torch.Tensor) -> None:
    """Let whoever stands at `asking` find the key that stands at `wanted` most alike."""
    solution = torch.linalg.lstsq(asking.double(), wanted.double(), driver="gelsd").solution
    attention.query.weight.data.copy_(SHARP * solution.T.float())
    attention.key.weight.data.copy_(torch.eye(asking.shape[1]))


def _layers(stack: nn.Module) -> list[Any]:
    return list(stack.get_submodule("layers").children())
