"""Parameter groups: which parameters share a learning rate or an optimizer.

The optimizer knows three names: "matrices" (trained by Muon where it is on), "backbone" (a learning
rate of its own) and "rest".
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from setmatch.models.layers.attention.attention import RMSNorm

ParameterGroups = dict[str, list[nn.Parameter]]
GroupParameters = Callable[[Any], ParameterGroups]  # takes the detector


def trainable_parameters(module: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of a module that require a gradient."""
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def norms_of(module: nn.Module) -> set[int]:
    """Return the `id` of each weight and bias of a norm within a module."""
    norms = nn.modules.batchnorm._NormBase | nn.LayerNorm | nn.GroupNorm | RMSNorm
    parts = (each for each in module.modules() if isinstance(each, norms))
    return {id(parameter) for part in parts for parameter in part.parameters()}


def biases_of(module: nn.Module) -> set[int]:
    """Return the `id` of each bias within a module."""
    named = module.named_parameters()
    return {id(parameter) for name, parameter in named if name.rpartition(".")[2] == "bias"}


def norms_and_outer_biases(detector: Any) -> set[int]:
    """Return the `id` of each parameter of a norm, and of each bias outside of the backbone."""
    return norms_of(detector) | (biases_of(detector) - biases_of(detector.backbone))


def backbone_and_rest(detector: Any) -> ParameterGroups:
    """Return the parameters of the backbone and all others, as published for DETR."""
    return split_backbone_params({"rest": trainable_parameters(detector)}, detector.backbone)


def split_backbone_params(
    groups: Mapping[str, Sequence[nn.Parameter]], backbone: nn.Module
) -> ParameterGroups:
    """Return the groups without the backbone's parameters, which form the group "backbone"."""
    own = {id(parameter) for parameter in backbone.parameters()}
    others = {name: [p for p in group if id(p) not in own] for name, group in groups.items()}
    return {"backbone": trainable_parameters(backbone), **others}


def split_muon_params(
    model: nn.Module, backbone: nn.Module, excluded: Sequence[nn.Module]
) -> ParameterGroups:
    """Return the weight matrices between hidden features as "matrices", all others as "rest".

    The first convolution, embeddings and the parameters of the `excluded` modules are in "rest".
    """
    embeddings = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    not_hidden = {id(p) for module in (*excluded, *embeddings) for p in module.parameters()}
    not_hidden.add(id(next(backbone.parameters())))
    hidden = [p for p in trainable_parameters(model) if p.ndim >= 2 and id(p) not in not_hidden]
    chosen = {id(parameter) for parameter in hidden}
    return {
        "matrices": hidden,
        "rest": [p for p in trainable_parameters(model) if id(p) not in chosen],
    }
