"""setmatch_n with one of its parts exchanged: what an ablation needs and the library does not.

Each is a composition of its own beside the presets; `register` lets recipes name them.
"""

import inspect
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from setmatch.models.denoising import Noisy
from setmatch.models.detector import Detector, MultiScaleDetector
from setmatch.models.heads import BoxStep, ClassHead
from setmatch.models.hybrid import Memory
from setmatch.models.presets import MODELS, setmatch_n
from setmatch.models.queries import Proposals
from setmatch.models.refine import RefiningDecoder
from setmatch.models.shapes import MultiScaleShape
from setmatch.scoring import Focal
from setmatch.structures import Assignment, Target


class NoDenoising(nn.Module):
    """Spoils no target: no query at all."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, targets: Sequence[Target], extent: Float[Tensor, "B 2"]) -> Noisy:
        """Return nothing to mend."""
        empty = extent.new_zeros(len(targets), 0)
        nowhere = torch.zeros(0, dtype=torch.int64, device=extent.device)
        return Noisy(
            empty[..., None].expand(-1, -1, self.dim),
            empty[..., None].expand(-1, -1, 4),
            empty.bool(),
            torch.zeros(0, 0, dtype=torch.bool, device=extent.device),
            1,
            Assignment(nowhere, nowhere, nowhere),
        )


class UnmovedDecoder(RefiningDecoder):
    """Every layer looks at, and starts from, the boxes that the first was given."""

    def forward(
        self,
        content: Float[Tensor, "B Q D"],
        cxcywh: Float[Tensor, "B Q 4"],
        memory: Memory,
        allowed: Bool[Tensor, "1 1 Q Q"] | None,
    ) -> tuple[Float[Tensor, "L B Q C"], Float[Tensor, "L B Q 4"], Float[Tensor, "B Q D"]]:
        """Return every layer's logits and boxes, and the last content."""
        logits, boxes = [], []
        position = self.position(2 * cxcywh - 1)
        heads = zip(self.layers, self.class_heads, self.box_steps, strict=True)
        for layer, class_head, box_step in heads:
            content = layer(content, position, cxcywh, memory, allowed)
            logits.append(class_head(content).float())
            boxes.append(box_step(content, cxcywh))
        return torch.stack(logits), torch.stack(boxes), content


class LearnedProposals(nn.Module):
    """Queries that are the same for every image: learned content and learned boxes."""

    def __init__(self, num_queries: int, dim: int, logits: int) -> None:
        super().__init__()
        self.num_queries = num_queries
        self.content = nn.Embedding(num_queries, dim)
        self.class_head = ClassHead(dim, logits)
        self.box_step = BoxStep(dim)
        self.box_step.last.reset_parameters()  # or all queries would begin with one box

    def forward(self, memory: Memory) -> Proposals:
        """Return the same for every image; the stream "encoder" trains their boxes."""
        content = self.content.weight.expand(len(memory.tokens), -1, -1)
        middle = content.new_full((1, self.num_queries, 4), 0.5)
        return Proposals(content, self.class_head(content).float(), self.box_step(content, middle))


class Half(nn.Module):
    """Stands where two maps are fused, and lets one of them through."""

    def __init__(self, place: int) -> None:
        super().__init__()
        self.place = place

    def forward(self, both: Float[Tensor, "B C h w"]) -> Float[Tensor, "B D h w"]:
        """Return the half of the channels that belongs to one map."""
        return both.chunk(2, dim=1)[self.place]


def _focal(detector: MultiScaleDetector, shape: MultiScaleShape) -> None:
    detector.scoring = Focal()


def _no_denoising(detector: MultiScaleDetector, shape: MultiScaleShape) -> None:
    detector.denoising = NoDenoising(shape.dim)


def _unmoved(detector: MultiScaleDetector, shape: MultiScaleShape) -> None:
    logits = detector.decoder.class_heads[0].out_features
    detector.decoder = UnmovedDecoder(list(detector.decoder.layers), shape.dim, logits)


def _learned(detector: MultiScaleDetector, shape: MultiScaleShape) -> None:
    logits = detector.decoder.class_heads[0].out_features
    detector.queries = LearnedProposals(shape.num_queries, shape.dim, logits)


def _unfused(detector: MultiScaleDetector, shape: MultiScaleShape) -> None:
    encoder = detector.encoder
    steps = range(len(encoder.down))
    encoder.down = nn.ModuleList(Half(0) for _ in steps)
    encoder.shrink = nn.ModuleList(nn.MaxPool2d(3, stride=2, padding=1) for _ in steps)
    encoder.up = nn.ModuleList(Half(1) for _ in steps)


EXCHANGES: dict[str, Callable[[MultiScaleDetector, MultiScaleShape], None]] = {
    "setmatch_n_focal": _focal,
    "setmatch_n_no_denoising": _no_denoising,
    "setmatch_n_unmoved": _unmoved,
    "setmatch_n_learned_queries": _learned,
    "setmatch_n_unfused": _unfused,
}


def register() -> None:
    """Let recipes name what is here as presets."""
    default = inspect.signature(setmatch_n).parameters["shape"].default
    for name, exchange in EXCHANGES.items():
        MODELS[name] = _preset(exchange, default)


def _preset(
    exchange: Callable[[MultiScaleDetector, MultiScaleShape], None], default: MultiScaleShape
) -> Callable[..., Detector]:
    def preset(num_classes: int, shape: MultiScaleShape = default) -> Detector:
        detector = setmatch_n(num_classes, shape)
        assert isinstance(detector, MultiScaleDetector), "the family is of one kind"
        exchange(detector, shape)
        return detector

    return preset
