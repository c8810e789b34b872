"""Any timm network as a backbone: its feature maps of strides 8, 16 and 32."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from setmatch.errors import ConfigError, ExtraMissingError, WeightsError, suggest

STRIDES = (8, 16, 32)


class TimmBackbone(nn.Module):
    """The timm network `name` without its classifier, every layer trained.

    Raises ConfigError for an unknown name or a network without the three strides, and
    ExtraMissingError if timm is not installed.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.network = _features(name, pretrained=False)
        for parent in list(self.network.modules()):
            for child, module in parent.named_children():
                if isinstance(module, nn.AvgPool2d) and _rounds_up(module):
                    setattr(parent, child, HalvedByMean())
        self.channels = tuple(self.network.feature_info.channels())

    def forward(self, pixels: Float[Tensor, "B 3 H W"]) -> tuple[Float[Tensor, "B _ _ _"], ...]:
        """Return the feature maps of strides 8, 16 and 32."""
        return tuple(self.network(pixels.contiguous(memory_format=torch.channels_last)))

    def load_pretrained(self) -> None:
        """Load the pretrained weights that timm publishes for this network.

        Raises WeightsError with the repository to fetch if there is no network.
        """
        try:
            pretrained = _features(self.name, pretrained=True)
        except (OSError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise WeightsError(
                f"pretrained weights of {self.name}: cannot be downloaded ({reason}); fetch them "
                "into the hub's cache on a machine with a network (hf download "
                f"{_repository(self.name)}), or start from random weights (--weights none, with "
                "train.backbone_lr as high as train.lr)"
            ) from None
        self.network.load_state_dict(pretrained.state_dict(), strict=True)


class HalvedByMean(nn.Module):
    """Average pooling of 2×2 cells that rounds sizes up, with odd borders replicated.

    It equals the pool of timm's residual networks, whose rounding torch.export cannot express for
    unknown sizes.
    """

    def forward(self, features: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C _ _"]:
        """Return the features at half the size, rounded up."""
        return F.avg_pool2d(F.pad(features, (0, 1, 0, 1), mode="replicate"), 2)


def _rounds_up(pool: nn.AvgPool2d) -> bool:
    sizes = (pool.kernel_size, pool.stride, pool.padding)
    plain = sizes == (2, 2, 0) and pool.divisor_override is None
    return plain and pool.ceil_mode and not pool.count_include_pad


def _features(name: str, pretrained: bool) -> Any:
    try:
        import timm
    except ImportError:
        raise ExtraMissingError("timm backbones need timm: pip install 'setmatch[timm]'") from None

    if not timm.is_model(name):
        hint = suggest(name, timm.list_models(), "timm.list_models() has them all")
        raise ConfigError(f"model.arguments.backbone = {name}: timm has no such network; {hint}")
    # Some of timm's networks read numbers off tensors while they are built, which meta has none of.
    with torch.device("cpu"):
        try:
            whole: Any = timm.create_model(name, features_only=True)
        except (AttributeError, RuntimeError, TypeError, ValueError) as error:
            raise _unfit(name, f"it has no feature maps ({error})") from None
        strides = list(whole.feature_info.reduction())
        if not set(STRIDES) <= set(strides):
            raise _unfit(name, f"its feature maps have strides {', '.join(map(str, strides))}")
        levels = tuple(strides.index(stride) for stride in STRIDES)
        return timm.create_model(
            name, features_only=True, out_indices=levels, pretrained=pretrained
        )


def _repository(name: str) -> str:
    import timm

    published = timm.get_pretrained_cfg(name)
    return (published and published.hf_hub_id) or f"timm/{name}"


def _unfit(name: str, why: str) -> ConfigError:
    return ConfigError(
        f"model.arguments.backbone = {name}: {why}, and strides 8, 16 and 32 are needed; take a "
        "convolutional network, such as resnet18 or mobilenetv3_small_100"
    )
