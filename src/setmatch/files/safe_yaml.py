"""Parse YAML of unknown origin in bounded time and memory."""

from collections.abc import Hashable
from typing import Any

import yaml

_MAX_VALUES = 1_000_000  # with every alias replaced by what it stands for


class YamlError(Exception):
    """Text that is not valid YAML, or whose aliases repeat values without end."""


class _Loader(yaml.SafeLoader):
    """The safe loader, which replaces no alias until it knows how many values there will be."""

    def compose_document(self) -> yaml.Node | None:
        """Return the nodes of a document. Raises yaml.YAMLError where aliases make too many."""
        root = super().compose_document()
        if root is not None:
            _count(root, {})
        return root


class _UniqueKeyLoader(_Loader):
    """Refuses duplicate keys, of which YAML would drop the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Return the mapping of `node`. Raises yaml.YAMLError for a duplicate key."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for index, (key, (node_of_key, _)) in enumerate(zip(keys, node.value, strict=True)):
            if key in keys[:index]:
                raise yaml.MarkedYAMLError(
                    problem=f"duplicate key {key!r}", problem_mark=node_of_key.start_mark
                )
        return super().construct_mapping(node, deep)


def parse_yaml(text: str, unique_keys: bool = False) -> Any:
    """Return what one YAML document holds; `unique_keys` refuses duplicate keys.

    Every failure is a YamlError in one line. So are aliases of aliases that stand for more than a
    million values: such a document of 600 bytes could keep any program busy for years.
    """
    try:
        loader = (_UniqueKeyLoader if unique_keys else _Loader)(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    # An impossible date or number, too deeply nested, or a key that is a list inside a list.
    except (ValueError, TypeError, RecursionError, yaml.YAMLError) as error:
        raise YamlError(" ".join(str(error).split())[:500]) from None


def _count(node: yaml.Node, counts: dict[int, int]) -> int:
    """Return how many values a node stands for. Raises yaml.YAMLError above the limit."""
    known = counts.get(id(node))
    if known is not None:
        if known < 0:
            raise yaml.MarkedYAMLError(
                problem="an alias inside of what it stands for", problem_mark=node.start_mark
            )
        return known
    counts[id(node)] = -1  # being counted
    inner: list[yaml.Node] = []
    if isinstance(node, yaml.SequenceNode):
        inner = node.value
    elif isinstance(node, yaml.MappingNode):
        inner = [each for pair in node.value for each in pair]
    count = 1 + sum(_count(each, counts) for each in inner)
    if count > _MAX_VALUES:
        raise yaml.MarkedYAMLError(
            problem=f"aliases stand for more than {_MAX_VALUES:,} values; write the values out",
            problem_mark=node.start_mark,
        )
    counts[id(node)] = count
    return count
