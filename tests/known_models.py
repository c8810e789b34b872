"""Models whose attention is known, because their weights are set by hand."""

from typing import Any

import torch
from PIL import Image
from torch import nn

from setmatch.models.detr.model import DETR
from setmatch.models.registry import build
from setmatch.models.setmatch.model import SetMatchDetector
from setmatch.structures.metadata import Categories, ModelCard, Preprocessing

CATEGORIES = Categories((1, 2), ("cat", "dog"))
ROWS, COLUMNS = 3, 5
PREPROCESSING = Preprocessing(ROWS * 32, COLUMNS * 32)  # so that a cell is 32 pixels
CELLS = (7, 0, 13, 4)  # the cell that query 0, 1, 2, 3 attends to
QUERIES = len(CELLS)
SHARP = 200.0  # makes the softmax choose

SMALL_DFINE = {  # arguments of dfine_s for tests
    "stem": (8, 8),
    "stage_inner": (8, 8, 12, 16),
    "stage_out": (16, 24, 32, 48),
    "encoder_dim": 32,
    "encoder_heads": 4,
    "encoder_ffn_dim": 48,
    "fusion_dim": 16,
    "dim": 32,
    "heads": 4,
    "ffn_dim": 48,
    "decoder_layers": 2,
    "num_queries": 20,
    "denoising_queries": 8,
}

SMALL_RTDETR = {  # arguments of presets of RT-DETR for tests
    "stem": 8,
    "stage_out": (16, 24, 32, 48),
    "stage_blocks": (1, 1, 2, 1),
    "encoder_dim": 32,
    "encoder_heads": 4,
    "encoder_ffn_dim": 48,
    "fusion_dim": 16,
    "dim": 32,
    "heads": 4,
    "ffn_dim": 48,
    "decoder_layers": 2,
    "num_queries": 20,
    "denoising_queries": 8,
}

SMALL_RFDETR = {  # arguments of presets of RF-DETR for tests
    "backbone_dim": 24,
    "backbone_heads": 3,
    "backbone_ffn_dim": 48,
    "patch": 8,
    "windows": 2,
    "grid": 6,
    "outputs": (1, 3),
    "projector_dim": 16,
    "projector_blocks": 1,
    "dim": 32,
    "heads": 4,
    "cross_heads": 8,
    "ffn_dim": 48,
    "decoder_layers": 2,
    "num_queries": 20,
    "query_groups": 3,
}

SMALL_LWDETR = {  # arguments of presets of LW-DETR for tests
    **{name: size for name, size in SMALL_RFDETR.items() if name != "outputs"},
    "outputs": (1, 2, 4),
    "windowed": (1, 3),
    "scales": (2.0, 0.5),
}

SMALL_DEIMV2 = {  # arguments of deimv2_pico for tests
    "stem": (8, 8),
    "stage_inner": (8, 8, 12),
    "stage_out": (16, 24, 32),
    "encoder_dim": 32,
    "fusion_dim": 12,
    "dim": 32,
    "heads": 4,
    "ffn_dim": 48,
    "decoder_layers": 2,
    "num_queries": 20,
    "denoising_queries": 8,
}

SMALL_DEFORMABLE = {  # arguments of presets of Deformable DETR for tests
    "backbone": "resnet18",
    "levels": 3,
    "encoder_layers": 1,
    "encoder_heads": 4,
    "encoder_points": 2,
    "encoder_ffn_dim": 48,
    "dim": 32,
    "heads": 4,
    "points": 2,
    "ffn_dim": 48,
    "decoder_layers": 2,
    "num_queries": 20,
    "dropout": 0.0,
}

SMALL_PLACED = {  # arguments of presets of Conditional DETR and DAB-DETR for tests
    "backbone": "resnet18",
    "encoder_layers": 1,
    "encoder_heads": 4,
    "encoder_ffn_dim": 48,
    "dim": 32,
    "heads": 4,
    "ffn_dim": 48,
    "decoder_layers": 2,
    "num_queries": 20,
    "dropout": 0.0,
}

# The box of each query after each of the two layers, far apart from each other.
BOXES = torch.tensor(
    [
        [[0.1, 0.2, 0.1, 0.2], [0.4, 0.2, 0.2, 0.2], [0.7, 0.2, 0.1, 0.3], [0.2, 0.7, 0.3, 0.3]],
        [[0.2, 0.3, 0.2, 0.3], [0.5, 0.3, 0.2, 0.3], [0.8, 0.3, 0.2, 0.3], [0.4, 0.8, 0.5, 0.2]],
    ]
)


class ConstantHead(nn.Module):
    """A head with a constant output."""

    def __init__(self, output: torch.Tensor) -> None:
        super().__init__()
        self.output = output  # L Q n

    def forward(self, decoded: torch.Tensor) -> torch.Tensor:
        return self.output[:, None].expand(-1, decoded.shape[1], -1, -1)


def gray_image() -> Image.Image:
    """A gray image of the models' input size."""
    return Image.new("RGB", (COLUMNS * 32, ROWS * 32), (150, 150, 150))


def mirrored(cell: int) -> int:
    """The mirror image of a cell through the image center."""
    return ROWS * COLUMNS - 1 - cell


def known_detr(encoder_layers: int = 1) -> DETR:
    """A DETR in which every cell attends to its mirror image, every query to the next one.

    In the first decoder layer query q attends to CELLS[q], in the second to all cells equally.
    Tokens and the contents of queries are zero: positions alone determine attention.
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
    model = build(ModelCard("detr_r18_tiny", shape, CATEGORIES, PREPROCESSING))
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
        _attend(layer.self_attention, position, position.flip(0))
    first, second = _layers(model.decoder)
    query_position = position[list(CELLS)]
    _attend(first.cross_attention, query_position, query_position)
    for layer in (first, second):
        _attend(layer.self_attention, query_position, query_position.roll(-1, 0))
    logits = torch.full((2, QUERIES, 3), -5.0)
    for query in range(QUERIES):
        logits[:, query, query % 2] = 3.0 - query / 2
    model.box_head, model.class_head = ConstantHead(BOXES), ConstantHead(logits)
    return model


def known_setmatch(score: float = 2.0) -> SetMatchDetector:
    """A setmatch_n with random weights whose sampling points are set by hand.

    Head h samples (h + 1) / 4 box widths right of the box center. Its points, counted through the
    levels, are each a quarter box height above the previous one, with a larger weight. Boxes move
    slightly.
    """
    shape = {"dim": 32, "heads": 2, "ffn_dim": 8, "num_queries": 6, "denoising_queries": 4}
    torch.manual_seed(5)  # whose first query has its last point inside the image
    model = build(ModelCard("setmatch_n", {**shape, "points": 2}, CATEGORIES, PREPROCESSING))
    assert isinstance(model, SetMatchDetector)
    for layer in _layers(model.decoder):
        attention = layer.cross_attention
        levels, points = len(attention.points), attention.points[0]
        offsets = torch.zeros(attention.heads, levels, points, 2)
        offsets[..., 0] = torch.arange(1, attention.heads + 1)[:, None, None] / 2
        number = torch.arange(float(levels * points)).view(levels, points)
        offsets[..., 1] = -number / 2
        attention.offsets.bias.data.copy_(offsets.flatten())
        attention.attention.bias.data.copy_(number.flatten().repeat(attention.heads))
    for head in model.decoder.class_heads:
        head.bias.data.fill_(score)
    for step in model.decoder.box_steps:
        step.last.bias.data.copy_(torch.tensor([0.1, -0.1, 0.1, 0.2]))
    return model


def unsure_detr() -> DETR:
    """The same DETR, but all its queries predict no object."""
    model = known_detr()
    model.class_head = ConstantHead(torch.tensor([-5.0, -6.0, 3.0]).expand(2, QUERIES, 3))
    return model


def _attend(attention: Any, query_position: torch.Tensor, key_position: torch.Tensor) -> None:
    """Make queries at `query_position` attend to the keys at `key_position`."""
    solution = torch.linalg.lstsq(
        query_position.double(), key_position.double(), driver="gelsd"
    ).solution
    attention.query.weight.data.copy_(SHARP * solution.T.float())
    attention.key.weight.data.copy_(torch.eye(query_position.shape[1]))


def _layers(stack: nn.Module) -> list[Any]:
    return list(stack.get_submodule("layers").children())
