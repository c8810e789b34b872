"""Every model becomes one graph for pictures of any size and number: nothing in it looks at data.

Tracing a model with three unknown sizes takes several seconds, so that the campaign alone does so
for every preset; always traced are the smallest of the family with and without masks, one on a
ResNet, the one whose trunk is not ours, and one of DETR with masks.
"""

import jaxtyping
import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim, export

from setmatch.models.detector import Detector
from setmatch.models.registry import FAMILIES, build
from setmatch.structures.batch import Batch
from setmatch.structures.metadata import Categories, ModelCard

NAMES = Categories((0, 1), ("a", "b"))
QUERY_PRESETS = [name for family in FAMILIES[:2] for name in family.presets]  # no baselines
SMALL = {"dim": 32, "heads": 4, "ffn_dim": 32, "encoder_layers": 1, "decoder_layers": 2}
LEAST_PX = 33  # at the coarsest stride one cell is a size of its own to a graph
MOST_PX = 1600  # 50 cells, as many as the learned positions of detr_demo
ALWAYS = (
    *("setmatch_n", "setmatch_n_panoptic", "setmatch_s", "setmatch_timm"),
    "detr_r18_tiny_panoptic",
)
TRUNKS = {"setmatch_timm": {"trunk": "resnet10t"}}  # which halves maps by pools that round up


class Answers(nn.Module):
    """A model as a function of tensors: what an exported graph takes and gives."""

    def __init__(self, model: Detector):
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        valid = torch.ones_like(pixels[:, 0], dtype=torch.bool)
        answer = self.model(Batch(pixels, valid, False))[0].predictions
        return tuple(x for x in (answer.logits, answer.cxcywh, answer.masks) if x is not None)


@pytest.fixture
def unchecked():
    """Shapes unchecked: comparing the sizes of a graph in the making would settle them."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.parametrize(
    "preset",
    [
        pytest.param(name, marks=() if name in ALWAYS else pytest.mark.campaign, id=name)
        for name in QUERY_PRESETS
    ],
)
def test_one_graph_serves_every_size_and_batch(preset: str, unchecked):
    """torch.export with dynamic batch, height and width equals the model at sizes never traced.

    In float64: mask logits of a ResNet-101 differ by 2e-5 in float32, which is rounding alone.
    """
    torch.manual_seed(0)
    arguments = {**SMALL, **TRUNKS.get(preset, {}), "num_queries": 12}
    answers = Answers(build(ModelCard(preset, arguments, NAMES))).eval().double()
    height, width = (Dim(side, min=LEAST_PX, max=MOST_PX) for side in ("height", "width"))
    dynamic = ({0: Dim("batch"), 2: height, 3: width},)
    traced = torch.randn(2, 3, 96, 128).double()
    graph = export(answers, (traced,), dynamic_shapes=dynamic).module()
    for size in [(1, 3, 96, 128), (3, 3, 160, 97), (2, 3, LEAST_PX, 70)]:
        pixels = torch.randn(size).double()
        with torch.no_grad():
            for ours, theirs in zip(answers(pixels), graph(pixels), strict=True):
                assert torch.allclose(ours, theirs, rtol=0, atol=1e-10)
