"""Weights for other classes or another number of queries; what carries over is kept."""

import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor

from setmatch.errors import WeightsError, quoted, short
from setmatch.models.class_rows import ClassRows
from setmatch.models.registry import build
from setmatch.models.same_classes import same_classes
from setmatch.models.weights.layouts.key_map import State
from setmatch.structures.metadata import Categories, ModelCard

# What a model learns of every query, whose last axis but one runs over queries.
LEARNED_QUERIES = ("queries.embedding.weight", "queries.content", "queries.places")


def adapt_classes(
    card: ModelCard, state: State, categories: Categories
) -> tuple[ModelCard, State, list[str]]:
    """Return card and weights for `categories`; rows of classes with the same name are kept.

    Names are compared as `same_classes` does. Rows of new classes are initialized at random; rows
    for "no object" or background are kept. Classes without names take the new names if there are as
    many. The third value lists the changes. Raises WeightsError for a model whose class rows are
    unknown (`Detector.class_rows`).
    """
    old = card.categories
    renamed = dataclasses.replace(card, categories=categories)
    if old == categories:
        return card, state, []
    if not any(old.names) and len(old) == len(categories):
        return renamed, state, [f"named the {len(old)} classes of the file: all rows kept"]
    rows = same_classes(old.names, categories.names)
    kept = [categories.name(class_index) for class_index, row in enumerate(rows) if row is not None]
    new = [categories.name(class_index) for class_index, row in enumerate(rows) if row is None]
    dropped = [name for index, name in enumerate(old.names) if name and index not in rows]
    renames = [
        f"{short(name)} is {short(old.names[row])}"
        for name, row in zip(categories.names, rows, strict=True)
        if name and row is not None and name.casefold() != str(old.names[row]).casefold()
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
        note = f"kept {_listed(kept)}; new {_listed(new)}; dropped {_listed(dropped)}"
    else:
        note = f"new for {_listed(new)}; the weights know {_listed(dropped)}"
    if renames:
        more = f" and {len(renames) - 8} more" if len(renames) > 8 else ""
        note += f". Of these, {', '.join(renames[:8])}{more} in the weights"
    return renamed, adapted, [f"class head: {note}"]


def adapt_num_queries(
    card: ModelCard, state: State, num_queries: int
) -> tuple[ModelCard, State, list[str]]:
    """Return card and weights with `num_queries` queries: the first are kept, new ones random."""
    learned = [key for key in LEARNED_QUERIES if key in state]
    arguments = {**card.arguments, "num_queries": num_queries}
    if not learned:  # queries are selected from the image, in any number
        return dataclasses.replace(card, arguments=arguments), state, []
    old = state[learned[0]].shape[-2]
    if old == num_queries:
        return card, state, []
    adapted = state | {key: _with_queries(state[key], num_queries) for key in learned}
    note = f"queries: kept the first {num_queries} of {old}"
    if num_queries > old:
        note = f"queries: kept all {old}, added {num_queries - old} new ones, which must be trained"
    return dataclasses.replace(card, arguments=arguments), adapted, [note]


def _with_queries(
    learned: Float[Tensor, "*groups old D"], num_queries: int
) -> Float[Tensor, "*groups Q D"]:
    *groups, old, dim = learned.shape
    if num_queries < old:
        return learned[..., :num_queries, :].clone()
    added = torch.randn(*groups, num_queries - old, dim) * learned.std()
    return torch.cat([learned, added], dim=-2)


def _choose_rows(
    tensor: Tensor, fresh: Tensor, rows: list[int | None], classes: int, kind: ClassRows
) -> Tensor:
    """Return a copy of `fresh` with the rows of `tensor` for known classes and background."""
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
    return f"{len(names)} ({quoted(names)})"
