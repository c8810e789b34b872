"""What checkpoints of DETR and its descendants on ResNets share: names, backbones, image sizes."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from setmatch.errors import WeightsError, short
from setmatch.models.weights.card import read_preprocessing
from setmatch.models.weights.layouts.hub_folder import PREPROCESSOR
from setmatch.models.weights.layouts.hybrid_folder import others
from setmatch.models.weights.layouts.key_map import State, count_parts
from setmatch.models.weights.raw_checkpoint import read_json
from setmatch.structures.metadata import Preprocessing

# Other names of the same tensors: in memory since transformers 5, and in transformers' own ResNet.
VARIANTS = (
    (r"^(detr\.)?model\.backbone\.model\.", r"\1model.backbone.conv_encoder.model."),
    (r"^(detr\.)?model\.backbone\.position_embedding\.", r"\1model.position_embedding."),
    (r"\.conv_encoder\.model\._backbone\.", ".conv_encoder.model."),
    (r"\.o_proj\.", ".out_proj."),
    (r"\.mlp\.fc", ".fc"),
    (r"\.embedder\.embedder\.convolution\.", ".conv1."),
    (r"\.embedder\.embedder\.normalization\.", ".bn1."),
    (r"\.shortcut\.convolution\.", ".downsample.0."),
    (r"\.shortcut\.normalization\.", ".downsample.1."),
)
STAGE = re.compile(r"\.encoder\.stages\.(\d)\.layers\.(\d+)\.")
BRANCH = re.compile(r"\.layer\.(\d)\.(convolution|normalization)\.")
NAMES = {(2, False): "resnet18", (6, False): "resnet34", (6, True): "resnet50"}
NAMES[23, True] = "resnet101"
# The networks that are torchvision's ResNets, by the names of timm and of transformers. Others,
# such as resnetblur50, have the same tensors and compute something else.
SAME_NETWORK = re.compile(r"(?:tv_|ssl_|swsl_|microsoft/)?resnet-?(?:18|34|50|101)(?:\..*)?")
REQUIRED = {
    "num_channels": 3,
    "hidden_act": "relu",
    "downsample_in_first_stage": False,
    "downsample_in_bottleneck": False,
}
DILATED = {None: False, 32: False, 16: True}  # by the stride of the last map


def hub_name(variant: str) -> str:
    """Return the name that a tensor has on the hub, of all names that transformers gave it."""
    key = BRANCH.sub(_branch, STAGE.sub(_stage, variant))
    for pattern, name in VARIANTS:
        key = re.sub(pattern, name, key)
    return key


def resnet_of(ours: State, path: Path) -> str:
    """Return the name of the ResNet whose tensors are there.

    Raises WeightsError for the tensors of another backbone.
    """
    blocks = count_parts(ours, r"backbone\.body\.layer3\.(\d+)\.")
    bottleneck = "backbone.body.layer1.0.conv3.weight" in ours
    name = NAMES.get((blocks, bottleneck))
    if name is None:
        raise WeightsError(f"{path}: its backbone is none of {', '.join(NAMES.values())}")
    return name


def is_dilated(config: Mapping[str, Any], path: Path) -> bool:
    """Return whether the backbone that config.json describes has a dilated last stage.

    Raises WeightsError unless it is a ResNet of torchvision's structure, whatever its tensors are
    called.
    """
    backbone = config.get("backbone_config")
    extra = config.get("backbone_kwargs")
    if isinstance(backbone, Mapping):  # which `dilation` then does not change
        settings, dilation = backbone, False
    elif backbone is not None:
        raise WeightsError(f"{path}: config.json describes its backbone as {short(backbone)}")
    else:
        settings = {**(extra if isinstance(extra, Mapping) else {}), "model_type": "timm_backbone"}
        settings["backbone"] = config.get("backbone") or "resnet50"
        dilation = bool(config.get("dilation"))
    kind, name = settings.get("model_type"), settings.get("backbone")
    problems = others(settings, REQUIRED)
    if kind not in ("resnet", "timm_backbone"):
        problems.append(f"model_type ({short(kind)})")
    if kind == "timm_backbone" and not SAME_NETWORK.fullmatch(str(name)):
        problems.append(f"backbone ({short(name)})")
    stride = settings.get("output_stride", 16 if dilation else None)
    dilates = DILATED.get(stride if isinstance(stride, int | None) else 0)
    if dilates is None or dilation > dilates:
        problems.append(f"output_stride ({short(stride)})")
    if problems:
        raise WeightsError(
            f"{path}: config.json describes a backbone with {', '.join(problems)}; read are "
            f"{', '.join(NAMES.values())} as torchvision has them, the last two also dilated"
        )
    return bool(dilates)


def preprocessing_of(folder: Path, notes: list[str]) -> Preprocessing:
    """Return the preprocessing of a folder, or the published one, which is noted."""
    path = folder / PREPROCESSOR
    if not path.exists():
        notes.append(f"assumed the published preprocessing: there is no {path.name}")
        return Preprocessing()
    tree = read_json(path)
    size = tree.get("size", {})
    if not isinstance(size, dict):  # as older versions wrote it
        size = {"shortest_edge": size, "longest_edge": tree.get("max_size")}
    published = Preprocessing()
    if not size.get("shortest_edge"):
        notes.append(f"assumed the published image size: {path.name} has no shortest_edge")
    mean, std = tree.get("image_mean", published.mean), tree.get("image_std", published.std)
    values = {
        "short_side_px": size.get("shortest_edge") or published.short_side_px,
        "long_side_px": size.get("longest_edge") or published.long_side_px,
        "mean": list(mean) if isinstance(mean, tuple) else mean,
        "std": list(std) if isinstance(std, tuple) else std,
    }
    return read_preprocessing(values, str(path))


def _stage(match: re.Match[str]) -> str:
    return f".layer{int(match[1]) + 1}.{match[2]}."


def _branch(match: re.Match[str]) -> str:
    kind = "conv" if match[2] == "convolution" else "bn"
    return f".{kind}{int(match[1]) + 1}."
