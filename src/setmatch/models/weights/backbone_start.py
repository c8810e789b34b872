"""Weights that a published training starts its backbone from: where they are, how they fill it."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from setmatch.errors import WeightsError
from setmatch.models.weights.downloads.download import PublishedCheckpoint, fetch
from setmatch.models.weights.layouts.key_map import State, Table, from_layout, known
from setmatch.models.weights.raw_checkpoint import read_pth
from setmatch.models.weights.terms import Terms, require_accepted, show_license_once

log = logging.getLogger("setmatch")
PREFIX = "backbone."
COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class BackboneStart:
    """What a preset's backbone starts from, by a name, and how to read it in our tensor names.

    `is_part` says that the backbone has parts of other sizes, which stay random, as published.
    """

    name: str
    read: Callable[[], State]
    is_part: bool = False


def read_backbone(
    published: PublishedCheckpoint,
    theirs: str,
    table: Table,
    terms: Terms | None = None,
    prepare: Callable[[State], State] = dict,
) -> State:
    """Download and read a file of a backbone alone, whose tensors a layout has below `theirs`.

    Tensors without a place in the layout are left out. Raises WeightsError with the address and the
    place for the file if there is no network, and for terms that are not accepted.
    """
    require_accepted(terms, published.name, None)
    raw = read_pth(fetch(f"weights of the backbone, {published.name}", published))
    show_license_once(published.name, published.license)
    state = prepare({f"{theirs}{key}": value for key, value in raw.state.items()})
    return from_layout(known(state, table), table)


def fill_backbone(backbone: nn.Module, start: BackboneStart, preset: str) -> None:
    """Fill a backbone with the weights that its published training starts from.

    Tensors that it has no place for are left out. Raises WeightsError if it has others.
    """
    given = {
        key.removeprefix(PREFIX): value
        for key, value in start.read().items()
        if key.startswith(PREFIX)
    }
    own = backbone.state_dict()
    fitting = {key: v for key, v in given.items() if key in own and own[key].shape == v.shape}
    random = [key for key in own if key not in fitting and not key.endswith(COUNTER)]
    if random and not (start.is_part and fitting):
        raise WeightsError(
            f"{start.name}: no weights for the backbone of this {preset}: {len(random)} of "
            f"{len(own)} tensors are missing there or have other sizes, such as {random[0]}; "
            "remove arguments of the model that change its backbone, or use --weights none"
        )
    if random:
        log.warning(
            "%s: %d of %d tensors of the backbone have other sizes and start random, as in the "
            "published training",
            start.name,
            len(random),
            len(own),
        )
    backbone.load_state_dict({**own, **fitting}, strict=True)
