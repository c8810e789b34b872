"""The paper's 50-line demo against the same model built from torch's own transformer."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models import resnet50

import setmatch
from setmatch.structures.batch import Batch


class Reference(nn.Module):
    """ResNet-50, a 1×1 convolution, positions added at the input, nn.Transformer, two heads."""

    def __init__(self, classes: int, dim: int, heads: int, depth: int) -> None:
        super().__init__()
        self.backbone = resnet50()
        del self.backbone.fc
        self.conv = nn.Conv2d(2048, dim, 1)
        self.transformer = nn.Transformer(dim, heads, depth, depth)
        self.linear_class = nn.Linear(dim, classes + 1)
        self.linear_bbox = nn.Linear(dim, 4)
        self.query_pos = nn.Parameter(torch.rand(100, dim))
        self.row_embed = nn.Parameter(torch.rand(50, dim // 2))
        self.col_embed = nn.Parameter(torch.rand(50, dim // 2))

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        resnet = self.backbone
        x = resnet.maxpool(resnet.relu(resnet.bn1(resnet.conv1(pixels))))
        features = self.conv(resnet.layer4(resnet.layer3(resnet.layer2(resnet.layer1(x)))))
        height, width = features.shape[-2:]
        columns = self.col_embed[:width].unsqueeze(0).repeat(height, 1, 1)
        rows = self.row_embed[:height].unsqueeze(1).repeat(1, width, 1)
        position = torch.cat([columns, rows], -1).flatten(0, 1).unsqueeze(1)
        tokens = position + 0.1 * features.flatten(2).permute(2, 0, 1)
        queries = self.query_pos.unsqueeze(1).expand(-1, len(pixels), -1)
        decoded = self.transformer(tokens, queries).transpose(0, 1)
        return self.linear_class(decoded), self.linear_bbox(decoded).sigmoid()


@pytest.mark.filterwarnings("ignore:enable_nested_tensor:UserWarning")  # of PyTorch's layers
def test_the_demo_model_equals_the_published_fifty_lines(tmp_path: Path):
    """Loaded from a half-precision file with the demo's tensor names, as published."""
    torch.manual_seed(0)
    reference = Reference(91, 64, 8, 2).eval()
    for module in reference.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.7, 1.3)
    reference.half().float()  # what a file in half precision can hold
    torch.save({k: v.half() for k, v in reference.state_dict().items()}, tmp_path / "demo.pth")
    model = setmatch.load(tmp_path / "demo.pth")
    assert model.card.preset == "detr_demo"
    images = [torch.randn(3, 96, 128) for _ in range(2)]
    with torch.no_grad():
        logits, boxes = reference(torch.stack(images))
        ours = model(Batch.from_images(images))[0].predictions
    assert ours.logits.shape[0] == 1
    assert torch.allclose(ours.logits[-1], logits, atol=1e-4)
    assert torch.allclose(ours.cxcywh[-1], boxes, atol=1e-5)
