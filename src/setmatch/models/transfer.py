"""Weights for other classes or another number of queries: what both know is kept, and said."""

import dataclasses
import math

import torch
from torch import Tensor

from setmatch.models.layouts import State
from setmatch.structures import Card, Categories


def for_categories(
    card: Card, state: State, categories: Categories
) -> tuple[Card, State, list[str]]:
    """Give the class head a row for each of `categories`, keeping the rows of names that it knows.

    Names are compared without regard to case. New rows are drawn as a fresh layer's would be;
    "no object", the last row, is kept. A model whose slots have no names takes the new names as
    they stand if there are as many.
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
    adapted = dict(state)
    for key in ("class_head.weight", "class_head.bias"):
        adapted[key] = _choose_rows(state[key], rows, state["class_head.weight"].shape[1])
    note = f"class head: kept {_listed(kept)}; new {_listed(new)}; left behind {_listed(left)}"
    return renamed, adapted, [note]


def for_queries(card: Card, state: State, num_queries: int) -> tuple[Card, State, list[str]]:
    """Keep the first `num_queries` queries, or add queries drawn as fresh ones are."""
    key = "queries.embedding.weight"
    had = state[key].shape[0]
    if had == num_queries:
        return card, state, []
    arguments = {**card.arguments, "num_queries": num_queries}
    adapted = dict(state)
    if num_queries < had:
        adapted[key] = state[key][:num_queries].clone()
        note = f"queries: kept the first {num_queries} of {had}"
    else:
        added = torch.randn(num_queries - had, state[key].shape[1]) * state[key].std()
        adapted[key] = torch.cat([state[key], added])
        note = f"queries: kept all {had}, added {num_queries - had} new ones, which must be trained"
    return dataclasses.replace(card, arguments=arguments), adapted, [note]


def _choose_rows(tensor: Tensor, rows: list[int | None], fan_in: int) -> Tensor:
    bound = 1 / math.sqrt(fan_in)  # torch's own start for a linear layer
    chosen = torch.empty(len(rows) + 1, *tensor.shape[1:]).uniform_(-bound, bound)
    for slot, row in enumerate([*rows, tensor.shape[0] - 1]):
        if row is not None:
            chosen[slot] = tensor[row]
    return chosen


def _listed(names: list[str]) -> str:
    if not names:
        return "none"
    shown = ", ".join(names[:8])
    return f"{len(names)} ({shown}{', …' if len(names) > 8 else ''})"
