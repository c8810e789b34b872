"""Weights for other classes or another number of queries: what both know is kept, and said."""

import dataclasses
import re

import torch
from torch import Tensor

from setmatch.errors import WeightsError
from setmatch.models.layouts import State
from setmatch.models.presets import build
from setmatch.structures import Card, Categories

# Tensors with rows for each class: which, rows a class, and rows of no class before all others.
CLASS_ROWS = (
    (re.compile(r"(class_head|queries\.class_head|decoder\.class_heads\.\d+)\.\w+"), 1, 0),
    (re.compile(r"denoising\.embedding\.weight"), 1, 0),
    (re.compile(r"network\.roi_heads\.box_predictor\.cls_score\.\w+"), 1, 1),
    (re.compile(r"network\.roi_heads\.box_predictor\.bbox_pred\.\w+"), 4, 1),
)


def for_categories(
    card: Card, state: State, categories: Categories
) -> tuple[Card, State, list[str]]:
    """Give class heads a row for each of `categories`, keeping the rows of names that they know.

    Names are compared without regard to case. New rows are drawn as a fresh model's would be; what
    stands for no class ("no object", background) is kept. A model whose slots have no names takes
    the new names as they stand if there are as many. Raises WeightsError for a model whose rows of
    a class are not known here.
    """
    old = card.categories
    renamed = dataclasses.replace(card, categories=categories)
    if old == categories:
        return card, state, []
    if not any(old.names) and len(old) == len(categories):
        return renamed, state, [f"named the {len(old)} class slots of the file: all rows kept"]
    known = {name.casefold(): slot for slot, name in enumerate(old.names) if name}
    rows = [known.get(name.casefold()) if name else None for name in categories.names]
    kept = [categories.name(slot) for slot, row in enumerate(rows) if row is not None]
    new = [categories.name(slot) for slot, row in enumerate(rows) if row is None]
    left = [
        name for name in old.names if name and name.casefold() not in {k.casefold() for k in kept}
    ]
    fresh = build(renamed).state_dict()
    adapted = dict(state)
    for key, each, before in _class_rows(state):
        adapted[key] = _choose_rows(state[key], fresh[key], rows, len(old), each, before)
    if any(adapted[key].shape != value.shape for key, value in fresh.items()):
        raise WeightsError(f"{card.preset}: its weights cannot be given other classes")
    note = f"class head: kept {_listed(kept)}; new {_listed(new)}; left behind {_listed(left)}"
    return renamed, adapted, [note]


def for_queries(card: Card, state: State, num_queries: int) -> tuple[Card, State, list[str]]:
    """Keep the first `num_queries` queries, or add queries drawn as fresh ones are."""
    key = "queries.embedding.weight"
    arguments = {**card.arguments, "num_queries": num_queries}
    if key not in state:  # the image chooses the queries, in any number
        return dataclasses.replace(card, arguments=arguments), state, []
    had = state[key].shape[0]
    if had == num_queries:
        return card, state, []
    adapted = dict(state)
    if num_queries < had:
        adapted[key] = state[key][:num_queries].clone()
        note = f"queries: kept the first {num_queries} of {had}"
    else:
        added = torch.randn(num_queries - had, state[key].shape[1]) * state[key].std()
        adapted[key] = torch.cat([state[key], added])
        note = f"queries: kept all {had}, added {num_queries - had} new ones, which must be trained"
    return dataclasses.replace(card, arguments=arguments), adapted, [note]


def _class_rows(state: State) -> list[tuple[str, int, int]]:
    return [
        (key, each, before)
        for key in state
        for pattern, each, before in CLASS_ROWS
        if pattern.fullmatch(key)
    ]


def _choose_rows(
    tensor: Tensor, fresh: Tensor, rows: list[int | None], classes: int, each: int, before: int
) -> Tensor:
    """Fill a copy of `fresh` with the rows of `tensor` that stand for the same."""
    old, chosen = _by_class(tensor, each), _by_class(fresh.clone(), each)
    for slot, row in enumerate(rows):
        if row is not None:
            chosen[before + slot] = old[before + row]
    chosen[:before] = old[:before]
    chosen[before + len(rows) :] = old[before + classes :]
    return chosen.flatten(0, 1)


def _by_class(tensor: Tensor, each: int) -> Tensor:
    return tensor.view(-1, each, *tensor.shape[1:])


def _listed(names: list[str]) -> str:
    if not names:
        return "none"
    shown = ", ".join(names[:8])
    return f"{len(names)} ({shown}{', …' if len(names) > 8 else ''})"
