"""Weights for other classes or another number of queries: what both know is kept, and said."""

import dataclasses

import torch
from torch import Tensor

from setmatch.errors import WeightsError
from setmatch.models.class_rows import ClassRows
from setmatch.models.registry import build
from setmatch.models.weights.key_map import State
from setmatch.structures.metadata import Categories, ModelCard


def adapt_classes(
    card: ModelCard, state: State, categories: Categories
) -> tuple[ModelCard, State, list[str]]:
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
    known = {name.casefold(): class_index for class_index, name in enumerate(old.names) if name}
    rows = [known.get(name.casefold()) if name else None for name in categories.names]
    kept = [categories.name(class_index) for class_index, row in enumerate(rows) if row is not None]
    new = [categories.name(class_index) for class_index, row in enumerate(rows) if row is None]
    left = [
        name for name in old.names if name and name.casefold() not in {k.casefold() for k in kept}
    ]
    model = build(renamed)
    fresh = model.state_dict()
    adapted = dict(state)
    for key in state:
        for kind in model.class_rows:
            if kind.names.fullmatch(key):
                adapted[key] = _choose_rows(state[key], fresh[key], rows, len(old), kind)
    if any(adapted[key].shape != value.shape for key, value in fresh.items()):
        raise WeightsError(f"{card.preset}: its weights cannot be given other classes")
    if kept:
        note = f"kept {_listed(kept)}; new {_listed(new)}; left behind {_listed(left)}"
    else:
        note = f"new for {_listed(new)}; the weights know {_listed(left)}"
    return renamed, adapted, [f"class head: {note}"]


def adapt_num_queries(
    card: ModelCard, state: State, num_queries: int
) -> tuple[ModelCard, State, list[str]]:
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


def _choose_rows(
    tensor: Tensor, fresh: Tensor, rows: list[int | None], classes: int, kind: ClassRows
) -> Tensor:
    """Fill a copy of `fresh` with the rows of `tensor` that stand for the same."""
    filled = fresh.clone()
    old, chosen, background = kind.by_class(tensor), kind.by_class(filled), kind.background
    for class_index, row in enumerate(rows):
        if row is not None:
            chosen[background + class_index] = old[background + row]
    chosen[:background] = old[:background]
    chosen[background + len(rows) :] = old[background + classes :]
    return filled


def _listed(names: list[str]) -> str:
    if not names:
        return "none"
    shown = ", ".join(names[:8])
    return f"{len(names)} ({shown}{', …' if len(names) > 8 else ''})"
