"""Any timm network as a backbone: its feature maps of strides 8, 16 and 32."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.utils import _pair

from setmatch.errors import ConfigError, ExtraMissingError, WeightsError, suggest
from setmatch.models.backbones.resnet_vd import HalvedByMean
from setmatch.models.layers.cells import Cells, gather, hide, spread

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
        self.hides_padding = all(map(_size_is_rounded_up, self.network.modules()))

    def forward(
        self, pixels: Float[Tensor, "B 3 H W"], cells: Cells | None = None
    ) -> tuple[Float[Tensor, "B _ _ _"], ...]:
        """Return the feature maps of strides 8, 16 and 32.

        `cells` are the pixels of the images in a padded batch. In evaluation these are run one by
        one, so that no layer sees padding. In training, where batch norms need them together,
        convolutions, pools and batch norms do not see it; means over whole maps still count it.
        """
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        if cells is None:
            return self._levels(pixels)
        if not self.training:
            return self._one_by_one(pixels, cells)
        with hidden_padding(self.network, cells):
            levels = self._levels(pixels)
        return tuple(hide(level, cells.at((level.shape[2], level.shape[3]))) for level in levels)

    def _one_by_one(
        self, pixels: Float[Tensor, "B 3 H W"], cells: Cells
    ) -> tuple[Float[Tensor, "B _ _ _"], ...]:
        alone = [
            self._levels(image[None, :, :height, :width])
            for image, (width, height) in zip(pixels, cells.valid_wh.tolist(), strict=True)
        ]
        return tuple(
            torch.cat([_padded(level, size) for level in levels])
            for levels, size in zip(zip(*alone, strict=True), _sizes(pixels), strict=True)
        )

    def _levels(self, pixels: Float[Tensor, "B 3 H W"]) -> tuple[Float[Tensor, "B _ _ _"], ...]:
        """Return the feature maps, whose sizes are rounded up.

        Networks of patches drop what is left at the right and bottom of an image, and their maps
        may then not fit onto each other. Their images are extended by zeros to whole cells.
        """
        if self.hides_padding:
            return tuple(self.network(pixels))
        height, width = pixels.shape[-2:]
        whole = F.pad(pixels, (0, -width % STRIDES[-1], 0, -height % STRIDES[-1]))
        sizes = zip(self.network(whole), _sizes(pixels), strict=True)
        return tuple(level[..., :height, :width] for level, (height, width) in sizes)

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


@contextmanager
def hidden_padding(network: nn.Module, pixels: Cells) -> Iterator[None]:
    """Hide padding from every convolution, pool and batch norm of a network in training."""
    maps: dict[tuple[int, ...], Cells] = {}  # shared by all maps of a size
    normalized: list[Cells] = []

    def cells(features: Tensor) -> Cells:
        height, width = features.shape[-2:]
        if (height, width) not in maps:
            maps[height, width] = pixels.at((height, width))
        return maps[height, width]

    def hide_input(module: nn.Module, inputs: tuple[Tensor]) -> Tensor:
        return hide(inputs[0], cells(inputs[0]))

    def gather_input(module: nn.Module, inputs: tuple[Tensor]) -> Tensor:
        normalized.append(cells(inputs[0]))
        return gather(inputs[0], normalized[-1])

    def mean_of_images(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        covered = module.forward(cells(inputs[0]).valid[:, None].to(output.dtype))
        return output / covered.clamp(min=torch.finfo(covered.dtype).tiny)

    def spread_output(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        return spread(output, normalized.pop())

    handles = []
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and module.training:
            handles.append(module.register_forward_pre_hook(gather_input))
            handles.append(module.register_forward_hook(spread_output))
        elif isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d | HalvedByMean):
            handles.append(module.register_forward_pre_hook(hide_input))
        if isinstance(module, HalvedByMean):
            handles.append(module.register_forward_hook(mean_of_images))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _sizes(pixels: Float[Tensor, "B 3 H W"]) -> list[tuple[int, int]]:
    height, width = pixels.shape[-2:]
    return [(-(-height // stride), -(-width // stride)) for stride in STRIDES]


def _padded(level: Float[Tensor, "1 C _ _"], size: tuple[int, int]) -> Float[Tensor, "1 C h w"]:
    height, width = level.shape[-2:]
    return F.pad(level, (0, size[1] - width, 0, size[0] - height))


def _size_is_rounded_up(module: nn.Module) -> bool:
    """Return False for layers by which an image has other cells at the border of a larger one."""
    if not isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
        return True
    if module.padding == "same":
        return True
    sides = (module.kernel_size, module.padding, getattr(module, "dilation", 1))
    axes = zip(*map(_pair, sides), strict=True)
    return all(2 * padding == dilation * (kernel - 1) for kernel, padding, dilation in axes)


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
    if torch.get_default_device().type == "meta":
        # Weights are to be loaded: a file must not choose a network that takes gigabytes to build.
        with suppress(_NoFeaturesError):
            network = _create(name, pretrained=False)
            if _holds_no_values(network):
                return network
    # Some of timm's networks read numbers off tensors while they are built, which meta has none of.
    with torch.device("cpu"):
        return _create(name, pretrained)


class _NoFeaturesError(ConfigError):
    """A network cannot be built with feature maps, at least not on this device."""


def _create(name: str, pretrained: bool) -> Any:
    import timm

    try:
        whole: Any = timm.create_model(name, features_only=True)
    except (AttributeError, RuntimeError, TypeError, ValueError) as error:
        raise _NoFeaturesError(_unfit(name, f"it has no feature maps ({error})")) from None
    strides = list(whole.feature_info.reduction())
    if not set(STRIDES) <= set(strides):
        raise ConfigError(
            _unfit(name, f"its feature maps have strides {', '.join(map(str, strides))}")
        )
    _require_any_size(name, whole)
    levels = tuple(strides.index(stride) for stride in STRIDES)
    return timm.create_model(name, features_only=True, out_indices=levels, pretrained=pretrained)


def _require_any_size(name: str, network: Any) -> None:
    """Raise ConfigError for a network that takes images of one size only."""
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(1, 3, 2 * STRIDES[-1], 3 * STRIDES[-1]))
    except (AssertionError, RuntimeError, ValueError) as error:
        why = " ".join(str(error).split())[:100]
        raise _NoFeaturesError(_unfit(name, f"it takes images of one size only ({why})")) from None


def _holds_no_values(network: nn.Module) -> bool:
    """Return whether all tensors of a network are in its checkpoints, so that none is computed."""
    saved = network.state_dict().keys()
    loose = any(isinstance(v, Tensor) for part in network.modules() for v in vars(part).values())
    return not loose and all(name in saved for name, _ in network.named_buffers())


def _repository(name: str) -> str:
    import timm

    published = timm.get_pretrained_cfg(name)
    return (published and published.hf_hub_id) or f"timm/{name}"


def _unfit(name: str, why: str) -> str:
    return (
        f"model.arguments.backbone = {name}: {why}, and strides 8, 16 and 32 of images of any size "
        "are needed; take a convolutional network, such as resnet18 or mobilenetv3_small_100"
    )
