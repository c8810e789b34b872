"""Tensor names: one table of our names and a published layout's serves both directions.

A row pairs two templates; {i}, {j}, {k}, {n}, {at} and {leaf} stand for parts that both share. A
layout that packs query, key and value of an attention into one tensor, or other parts, writes
`name#0` for the first of them.
"""

import re
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from setmatch.errors import WeightsError

State = dict[str, Tensor]
Table = Sequence[tuple[str, str]]

PLACEHOLDERS = {
    "i": r"\d+",
    "j": r"\d+",
    "k": r"\d+",
    "n": r"\d",
    "at": r"(?:layer\d\.\d+\.)?",
    "leaf": r"\w+",
}


def resnet_table(theirs: str) -> Table:
    """Pair our frozen ResNet with torchvision's and timm's below the prefix `theirs`."""
    return (
        ("backbone.body.{at}conv{n}.weight", theirs + "{at}conv{n}.weight"),
        ("backbone.body.{at}conv{n}.norm.{leaf}", theirs + "{at}bn{n}.{leaf}"),
        ("backbone.body.{at}downsample.0.weight", theirs + "{at}downsample.0.weight"),
        ("backbone.body.{at}downsample.0.norm.{leaf}", theirs + "{at}downsample.1.{leaf}"),
    )


def packed_attention(ours: str, theirs: str) -> Table:
    """Pair an attention with torch's, which packs its three input projections."""
    return (
        (f"{ours}.query.{{leaf}}", f"{theirs}.in_proj_{{leaf}}#0"),
        (f"{ours}.key.{{leaf}}", f"{theirs}.in_proj_{{leaf}}#1"),
        (f"{ours}.value.{{leaf}}", f"{theirs}.in_proj_{{leaf}}#2"),
        (f"{ours}.out.{{leaf}}", f"{theirs}.out_proj.{{leaf}}"),
    )


def split_attention(ours: str, theirs: str) -> Table:
    """Pair an attention with transformers', which has four projections as ours."""
    names = (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj"), ("out", "out_proj"))
    return tuple((f"{ours}.{a}.{{leaf}}", f"{theirs}.{b}.{{leaf}}") for a, b in names)


def sampling(ours: str, theirs: str) -> Table:
    """Pair the layers that place the points of a deformable attention and weigh them."""
    return (
        (f"{ours}.offsets.{{leaf}}", f"{theirs}.sampling_offsets.{{leaf}}"),
        (f"{ours}.attention.{{leaf}}", f"{theirs}.attention_weights.{{leaf}}"),
    )


def projected_sampling(ours: str, theirs: str) -> Table:
    """Pair a deformable attention between two projections."""
    return (
        *sampling(ours, theirs),
        (f"{ours}.value.{{leaf}}", f"{theirs}.value_proj.{{leaf}}"),
        (f"{ours}.out.{{leaf}}", f"{theirs}.output_proj.{{leaf}}"),
    )


def conv_and_norm(ours: str, conv: str, norm: str) -> Table:
    """Pair a convolution with its batch norm, which are children 0 and 1 of one of our modules."""
    return ((f"{ours}.0.weight", f"{conv}.weight"), (f"{ours}.1.{{leaf}}", f"{norm}.{{leaf}}"))


def below(ours: str, theirs: str, table: Table) -> Table:
    """Return `table` with a prefix for each side."""
    return tuple((f"{ours}.{a}", f"{theirs}.{b}") for a, b in table)


TORCHVISION_BACKBONE: Table = resnet_table("")


def to_layout(state: State, table: Table) -> State:
    """Rename our tensors into a layout, packing attention projections where it does.

    Raises WeightsError for a tensor that the layout has no name for.
    """
    renamed = _rename(state, [(ours, theirs) for ours, theirs in table])
    packed = {key: value for key, value in renamed.items() if "#" not in key}
    parts: dict[str, list[str]] = {}
    for key in sorted(key for key in renamed if "#" in key):
        parts.setdefault(key.partition("#")[0], []).append(key)
    return packed | {
        whole: torch.cat([renamed[key] for key in keys]) for whole, keys in parts.items()
    }


def from_layout(state: State, table: Table) -> State:
    """Rename the tensors of a layout into ours, splitting packed attention projections.

    Batch norm counters are dropped: a frozen norm does not use them. Raises WeightsError for a
    tensor that the layout does not know.
    """
    split: State = {}
    for key, value in state.items():
        if key.endswith("num_batches_tracked"):
            continue
        if "in_proj_" in key:
            split |= {f"{key}#{index}": part for index, part in enumerate(value.chunk(3))}
        else:
            split[key] = value
    return _rename(split, [(theirs, ours) for ours, theirs in table])


def known(state: State, table: Table) -> State:
    """Return the tensors that a layout has names for."""
    patterns = [_pattern(theirs) for _, theirs in table]
    return {k: v for k, v in state.items() if any(each.fullmatch(k) for each in patterns)}


def names_beside(state: State, table: Table) -> tuple[list[str], list[str]]:
    """Return the tensors that a layout has no name for, and its names that no tensor has."""
    patterns = {theirs: _pattern(theirs.partition("#")[0]) for _, theirs in table}
    unknown = [key for key in state if not any(p.fullmatch(key) for p in patterns.values())]
    missing = [
        theirs
        for theirs, pattern in patterns.items()
        if not any(pattern.fullmatch(key) for key in state)
    ]
    return unknown, missing


def with_batch_counters(state: State) -> State:
    """Return our tensors with the counters of all batch norms, which layouts leave out."""
    counters = {
        key.removesuffix("running_mean") + "num_batches_tracked": torch.tensor(0)
        for key in state
        if key.endswith("running_mean")
    }
    return counters | state


def count_parts(state: State, pattern: str) -> int:
    """Return one more than the largest number that `pattern` finds in the names of tensors."""
    numbers = {int(match[1]) for key in state if (match := re.match(pattern, key))}
    return max(numbers, default=-1) + 1


def with_every_head(state: State, head: str, layers: int) -> State:
    """Return the heads of all `layers`: a file may have those of the first alone, if all share.

    `head` is the beginning of their names, such as "decoder.class_heads.{}.". Where another layer
    has one of its own, none is shared: what is missing then is missing.
    """
    first, place = head.format(0), re.escape(head).replace(r"\{\}", r"(\d+)")
    if count_parts(state, place) != 1:
        return state
    shared = {key.removeprefix(first): v for key, v in state.items() if key.startswith(first)}
    return state | {
        head.format(layer) + name: value
        for layer in range(1, layers)
        for name, value in shared.items()
    }


def _rename(state: State, pairs: Table) -> State:
    rules = [(_pattern(source), target) for source, target in pairs]
    renamed, unknown = {}, []
    for key, value in state.items():
        for pattern, target in rules:
            match = pattern.fullmatch(key)
            if match:
                renamed[target.format(**match.groupdict())] = value
                break
        else:
            unknown.append(key)
    if unknown:
        others = f", nor for {len(unknown) - 1} others" if len(unknown) > 1 else ""
        raise WeightsError(f"tensor {unknown[0][:200]}: this layout has no name for it{others}")
    return renamed


@cache  # a few thousand templates; Python itself keeps 512 patterns
def _pattern(template: str) -> re.Pattern[str]:
    escaped = re.escape(template).replace(r"\{", "{").replace(r"\}", "}")
    return re.compile(re.sub(r"{(\w+)}", lambda m: f"(?P<{m[1]}>{PLACEHOLDERS[m[1]]})", escaped))
