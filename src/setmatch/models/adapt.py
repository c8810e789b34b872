"""Weights for other classes or another number of queries: what both know is kept, and said."""

import dataclasses
import re
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from setmatch.errors import WeightsError
from setmatch.models.registry import build
from setmatch.models.weights.key_map import State
from setmatch.structures.metadata import Categories, ModelCard


@dataclass(frozen=True)
class ClassRows:
    """Tensors with rows for each class: `each` a class, after `before` for what is no class.

    With several `anchors` all that comes once for each of them.
    """

    names: re.Pattern[str]
    each: int = 1
    before: int = 0
    anchors: int = 1

    def by_class(self, tensor: Tensor) -> Float[Tensor, "classes anchors each *n"]:
        """Return a view in which a row is all there is of a class."""
        return tensor.view(self.anchors, -1, self.each, *tensor.shape[1:]).transpose(0, 1)


CLASS_ROWS = (
    ClassRows(re.compile(r"(class_head|queries\.class_head|decoder\.class_heads\.\d+)\.\w+")),
    ClassRows(re.compile(r"denoising\.embedding\.weight")),
    ClassRows(re.compile(r"network\.roi_heads\.box_predictor\.cls_score\.\w+"), before=1),
    ClassRows(re.compile(r"network\.roi_heads\.box_predictor\.bbox_pred\.\w+"), 4, before=1),
    ClassRows(
        re.compile(r"network\.head\.classification_head\.module_list\.\d+\.1\.\w+"),
        before=1,
        anchors=6,
    ),
)


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
    fresh = build(renamed).state_dict()
    adapted = dict(state)
    for key, kind in _class_rows(state):
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


def _class_rows(state: State) -> list[tuple[str, ClassRows]]:
    return [(key, kind) for key in state for kind in CLASS_ROWS if kind.names.fullmatch(key)]


def _choose_rows(
    tensor: Tensor, fresh: Tensor, rows: list[int | None], classes: int, kind: ClassRows
) -> Tensor:
    """Fill a copy of `fresh` with the rows of `tensor` that stand for the same."""
    filled = fresh.clone()
    old, chosen, before = kind.by_class(tensor), kind.by_class(filled), kind.before
    for class_index, row in enumerate(rows):
        if row is not None:
            chosen[before + class_index] = old[before + row]
    chosen[:before] = old[:before]
    chosen[before + len(rows) :] = old[before + classes :]
    return filled


def _listed(names: list[str]) -> str:
    if not names:
        return "none"
    shown = ", ".join(names[:8])
    return f"{len(names)} ({shown}{', …' if len(names) > 8 else ''})"
