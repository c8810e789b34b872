"""Every model exports to one graph for all batch and image sizes.

Tracing with three dynamic sizes takes several seconds. Four presets are always traced, all others
in the campaign.
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
QUERY_PRESETS = [name for family in FAMILIES[:-1] for name in family.presets]  # no baselines
SMALL = {"dim": 32, "heads": 4, "ffn_dim": 32, "encoder_layers": 1, "decoder_layers": 2}
MIN_PX = 33  # torch.export specializes on a coarsest level of one cell
MAX_PX = 1600  # 50 cells, as many as the learned positions of detr_demo
ALWAYS = (
    *("setmatch_n", "setmatch_n_panoptic", "setmatch_timm"),
    "detr_r18_tiny_panoptic",
)
BACKBONES = {"setmatch_timm": {"backbone": "resnet10t"}}  # its pools round sizes up


class TensorModel(nn.Module):
    """A detector as a function of tensors, for export."""

    def __init__(self, model: Detector):
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        valid = torch.ones_like(pixels[:, 0], dtype=torch.bool)
        outputs = self.model(Batch(pixels, valid, False))[0].predictions
        return tuple(x for x in (outputs.logits, outputs.cxcywh, outputs.masks) if x is not None)


@pytest.fixture
def unchecked_shapes():
    """Disable shape checks: comparing sizes while tracing would make them static."""
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
def test_one_graph_serves_every_size_and_batch(preset: str, unchecked_shapes):
    """torch.export with dynamic sizes equals the model at sizes that were not traced.

    In float64: mask logits of a ResNet-101 differ by 2e-5 in float32, by rounding.
    """
    torch.manual_seed(0)
    arguments = {**SMALL, **BACKBONES.get(preset, {}), "num_queries": 12}
    model = TensorModel(build(ModelCard(preset, arguments, NAMES))).eval().double()
    height, width = (Dim(side, min=MIN_PX, max=MAX_PX) for side in ("height", "width"))
    dynamic = ({0: Dim("batch"), 2: height, 3: width},)
    traced = torch.randn(2, 3, 96, 128).double()
    graph = export(model, (traced,), dynamic_shapes=dynamic).module()
    for size in [(1, 3, 96, 128), (3, 3, 160, 97), (2, 3, MIN_PX, 70)]:
        pixels = torch.randn(size).double()
        with torch.no_grad():
            for ours, theirs in zip(model(pixels), graph(pixels), strict=True):
                assert torch.allclose(ours, theirs, rtol=0, atol=1e-10)
