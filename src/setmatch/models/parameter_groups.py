"""Parameter groups: which parameters share a learning rate or an optimizer."""

from collections.abc import Mapping, Sequence

from torch import nn


def trainable_parameters(module: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of a module that are trained."""
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def split_backbone_params(
    groups: Mapping[str, Sequence[nn.Parameter]], backbone: nn.Module
) -> dict[str, list[nn.Parameter]]:
    """Return the trunk's parameters as a group "backbone", and the groups without them."""
    own = {id(parameter) for parameter in backbone.parameters()}
    others = {name: [p for p in group if id(p) not in own] for name, group in groups.items()}
    return {"backbone": trainable_parameters(backbone), **others}


def split_muon_params(
    model: nn.Module, backbone: nn.Module, special: Sequence[nn.Module]
) -> dict[str, list[nn.Parameter]]:
    """Return the matrices between hidden features, and all the rest.

    First convolution, embeddings and what belongs to `special` modules are of the rest.
    """
    embeddings = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    kept = {id(p) for module in (*special, *embeddings) for p in module.parameters()}
    kept.add(id(next(backbone.parameters())))
    hidden = [p for p in trainable_parameters(model) if p.ndim >= 2 and id(p) not in kept]
    chosen = {id(parameter) for parameter in hidden}
    return {
        "matrices": hidden,
        "rest": [p for p in trainable_parameters(model) if id(p) not in chosen],
    }
