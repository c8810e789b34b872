"""The optimizer: AdamW, and Muon for matrices; both skip a step that is not finite."""

from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from setmatch.config import TrainSettings
from setmatch.training.optim.muon import Muon


class SkippingAdamW(torch.optim.AdamW):
    """AdamW whose fused kernel changes nothing if `found_inf` is 1.

    The flag stays on the device, so no step waits for it. Torch's gradient scaler sets the same
    attribute for the same purpose.
    """

    found_inf: Tensor


class CombinedOptimizer:
    """Several optimizers that step together, each on its own parameters."""

    def __init__(self, *optimizers: SkippingAdamW | Muon) -> None:
        self.optimizers = optimizers

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of all optimizers, which may be changed in place."""
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    def skip_where(self, found_inf: Float[Tensor, ""]) -> None:
        """Make the next step change nothing if `found_inf` is 1."""
        for optimizer in self.optimizers:
            optimizer.found_inf = found_inf

    def step(self) -> None:
        """Update every parameter."""
        for optimizer in self.optimizers:
            optimizer.step()

    def zero_grad(self) -> None:
        """Set all gradients to None."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)

    def state_dict(self, model: nn.Module) -> dict[str, dict[str, Any]]:
        """Return the state of each optimizer by its class name, then by the parameter's name.

        Numbers of parameters, which torch uses, change with the groups: a rate or decay of its own
        would give a parameter the moments of another one.
        """
        return {
            type(each).__name__: {
                name: each.state[parameter]
                for name, parameter in _names_in(each, model).items()
                if parameter in each.state
            }
            for each in self.optimizers
        }

    def load_state_dict(self, states: Mapping[str, Mapping[str, Any]], model: nn.Module) -> None:
        """Restore what `state_dict` returned; learning rates stay as they are.

        Raises KeyError or ValueError for the state of other optimizers or parameters.
        """
        for optimizer in self.optimizers:
            named = states[type(optimizer).__name__]
            if any(isinstance(name, int) for name in named):
                raise ValueError("an older version wrote it: start anew, with --weights RUN")
            names = [*_names_in(optimizer, model)]
            if unknown := {*named} - {*names}:
                raise ValueError(f"the optimizer has no parameter {min(unknown, key=repr)}")
            groups = optimizer.state_dict()["param_groups"]
            state = {number: named[name] for number, name in enumerate(names) if name in named}
            optimizer.load_state_dict({"state": state, "param_groups": groups})


def _names_in(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters of an optimizer by their names, in its order."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(p)]: p for group in optimizer.param_groups for p in group["params"]}


def build_optimizer(
    groups: Mapping[str, Sequence[nn.Parameter]],
    settings: TrainSettings,
    rate_factors: Mapping[int, float] | None = None,
    undecayed: Set[int] = frozenset(),
) -> CombinedOptimizer:
    """Return AdamW over the groups "backbone" and "rest", and Muon over "matrices".

    Each group has its own learning rate, times `rate_factors` for parameters whose `id` these have.
    Parameters whose `id` is in `undecayed` have no weight decay.
    With `muon_lr` 0, AdamW trains the matrices like the rest.
    Source: Loshchilov and Hutter (arXiv 1711.05101); rates of arXiv 2005.12872, appendix A.4.
    """
    rates = {"backbone": "backbone_lr", "rest": "lr"}  # group: the setting of its learning rate
    rates["matrices"] = "muon_lr" if settings.muon_lr else "lr"
    assert set(groups) <= set(rates), f"the groups of a detector are {', '.join(rates)}"
    by_muon = ["matrices"] if settings.muon_lr else []

    def parts(name: str) -> list[dict[str, Any]]:
        """Return a group for each rate and decay, that of the full rate last: it is the logged."""
        alike: dict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
        for parameter in groups.get(name, ()):
            factor = (rate_factors or {}).get(id(parameter), 1.0)
            decayed = 0.0 if id(parameter) in undecayed else decay
            alike[getattr(settings, rates[name]) * factor, decayed].append(parameter)
        return [
            {
                "params": alike[lr, decayed],
                "setting": rates[name],
                "lr": lr,
                "full_lr": lr,
                "weight_decay": decayed,
            }
            for lr, decayed in sorted(alike)
        ]

    decay = settings.weight_decay
    adamw = [part for name in rates if name not in by_muon for part in parts(name)]
    muon = [part for name in by_muon for part in parts(name)]
    optimizers: list[SkippingAdamW | Muon] = []
    if adamw:
        optimizers.append(SkippingAdamW(adamw, weight_decay=decay, fused=True))
    if muon:
        optimizers.append(Muon(muon, weight_decay=decay))
    return CombinedOptimizer(*optimizers)


def set_learning_rates(optimizer: CombinedOptimizer, factor: float) -> None:
    """Set every group's learning rate to `factor` times the one in its setting."""
    for group in optimizer.param_groups:
        group["lr"] = factor * group["full_lr"]


def learning_rates(optimizer: CombinedOptimizer) -> dict[str, float]:
    """Return the current learning rates by the name of their setting."""
    return {group["setting"]: group["lr"] for group in optimizer.param_groups}


def apply_gradients(
    optimizer: CombinedOptimizer, clip_norm: float
) -> tuple[Float[Tensor, ""], Bool[Tensor, ""]]:
    """Clip the gradients to `clip_norm`, step unless one is not finite, and clear them.

    Returns the norm before clipping and whether the step was taken, both still on the device. A
    skipped step changes no bit of any parameter, moment or step count.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    norm = nn.utils.clip_grad_norm_(parameters, clip_norm)
    finite = torch.isfinite(norm)
    optimizer.skip_where((~finite).float())
    optimizer.step()
    optimizer.zero_grad()
    return norm, finite
