"""torchvision's ResNet as a backbone, with trained batch norms or with frozen, folded ones."""

from collections.abc import Iterator
from typing import Any, Literal, Protocol, TypeGuard

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet

from setmatch.models.backbones.folding import pointwise_dilation, scale_and_shift
from setmatch.models.layers.cells import Cells, hide, normalize

STAGES = ("layer1", "layer2", "layer3", "layer4")
ResNetName = Literal["resnet18", "resnet34", "resnet50", "resnet101"]


class Named(Protocol):
    """A backbone whose `body` is torchvision's network `name`, for loading its weights."""

    name: str
    body: nn.Module


def is_named(backbone: nn.Module) -> TypeGuard[Named]:
    """Return whether a backbone, of ours or of torchvision, has a name and a body."""
    return hasattr(backbone, "name") and hasattr(backbone, "body")


class FrozenNorm(nn.Module):
    """The statistics of a frozen batch norm, applied by `FrozenNormConv2d`."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor
    eps = 1e-5

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def scale_and_shift(self) -> tuple[Float[Tensor, " C"], Float[Tensor, " C"]]:
        """Return the frozen norm as a scale and shift per channel."""
        return scale_and_shift(
            self.weight, self.bias, self.running_mean, self.running_var, self.eps
        )


class FrozenNormConv2d(nn.Conv2d):
    """A convolution and a frozen batch norm, folded into its weights at every call."""

    def __init__(self, conv: nn.Conv2d) -> None:
        assert conv.bias is None, "the norm has a bias of its own"
        super().__init__(**_settings(conv), bias=False)
        self.weight = conv.weight
        self.norm = FrozenNorm(conv.out_channels)

    def forward(self, features: Float[Tensor, "B C h w"]) -> Float[Tensor, "B D H W"]:
        """Convolve and normalize."""
        scale, shift = self.norm.scale_and_shift()
        weight = self.weight * scale[:, None, None, None]
        return F.conv2d(
            features,
            weight,
            shift,
            self.stride,
            self.padding,
            pointwise_dilation(self, features),
            self.groups,
        )

    @torch.no_grad()
    def plain(self) -> nn.Conv2d:
        """Return a convolution into which the norm is folded once, not at every call."""
        scale, shift = self.norm.scale_and_shift()
        folded = nn.Conv2d(**_settings(self), device="meta")
        weight = self.weight * scale[:, None, None, None]
        folded.weight = nn.Parameter(weight, requires_grad=False)
        folded.bias = nn.Parameter(shift, requires_grad=False)
        return folded


def _settings(conv: nn.Conv2d) -> dict[str, Any]:
    """Return the arguments that build a convolution of the same kind, without its bias."""
    names = (
        "in_channels",
        "out_channels",
        "kernel_size",
        "stride",
        "padding",
        "dilation",
        "groups",
    )
    return {name: getattr(conv, name) for name in names}


class Backbone(nn.Module):
    """A ResNet that returns the feature maps of the chosen stages, fine to coarse.

    `hides_padding` False is as published: the padding of a batch reaches the images' borders.
    """

    def __init__(
        self, name: str, stages: tuple[str, ...], body: resnet.ResNet, hides_padding: bool
    ) -> None:
        super().__init__()
        self.name = name
        del body.fc, body.avgpool
        self.body = body
        self.stages = stages
        self.hides_padding = hides_padding
        self.channels = tuple(_out_channels(getattr(body, stage)) for stage in stages)

    def forward(
        self, pixels: Float[Tensor, "B 3 H W"], cells: Cells | None = None
    ) -> tuple[Float[Tensor, "B _ _ _"], ...]:
        """Return the feature map of each chosen stage, (B, C, H / stride, W / stride).

        `cells` are the pixels of the images in a padded batch, whose padding is hidden.
        """
        body = self.body
        features = pixels.contiguous(memory_format=torch.channels_last)
        half, quarter = (None if cells is None else cells.every(step) for step in (2, 4))
        features = body.relu(normalize(body.bn1, body.conv1(features), half))
        features, cells = hide(body.maxpool(features), quarter), quarter
        levels = []
        for stage in STAGES:
            for block in getattr(body, stage):
                features, cells = _residual_block(block, features, cells)
            if stage in self.stages:
                levels.append(features)
        return tuple(levels)


def _residual_block(
    block: Any, features: Float[Tensor, "B C h w"], cells: Cells | None
) -> tuple[Float[Tensor, "B D H W"], Cells | None]:
    """Return the output of torchvision's BasicBlock or Bottleneck, and its cells."""
    layers = [(block.conv1, block.bn1), (block.conv2, block.bn2)]
    if hasattr(block, "conv3"):
        layers.append((block.conv3, block.bn3))
    inner = features
    for number, (conv, norm) in enumerate(layers):
        inner = block.relu(inner) if number else inner
        cells = None if cells is None else cells.every(conv.stride[0])
        inner = normalize(norm, conv(inner), cells)
    if block.downsample is not None:
        conv, norm = block.downsample
        features = normalize(norm, conv(features), cells)
    inner += features
    return block.relu(inner), cells


def frozen_resnet(
    name: str,
    *,
    dilate_last: bool = False,
    stages: tuple[str, ...] = ("layer4",),
    hides_padding: bool = False,
) -> Backbone:
    """Return the backbone of the published models: frozen norms, stem and layer1 not trained.

    `name` is torchvision's ("resnet50"); `dilate_last` dilates the last stage to keep it at stride
    16 (DC5). Weights are random; `initialize.load_imagenet_backbone` loads pretrained ones.
    """
    body = getattr(resnet, name)(
        norm_layer=nn.Identity, replace_stride_with_dilation=[False, False, dilate_last]
    )
    for parent, child, conv in list(_convolutions(body)):
        setattr(parent, child, FrozenNormConv2d(conv))
    for parameter in [*body.conv1.parameters(), *body.layer1.parameters()]:
        parameter.requires_grad_(False)
    return Backbone(name, stages, body, hides_padding)


def trainable_resnet(name: str, *, stages: tuple[str, ...] = ("layer4",)) -> Backbone:
    """Return a ResNet with all layers and batch norms trained, for training from scratch."""
    return Backbone(name, stages, getattr(resnet, name)(), hides_padding=True)


def _convolutions(module: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Conv2d]]:
    for parent in module.modules():
        for name, child in parent.named_children():
            if isinstance(child, nn.Conv2d):
                yield parent, name, child


def _out_channels(stage: nn.Sequential) -> int:
    convolutions = [m for m in stage[-1].modules() if isinstance(m, nn.Conv2d)]
    return convolutions[-1].out_channels
