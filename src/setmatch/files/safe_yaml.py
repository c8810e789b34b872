"""Parse YAML of unknown origin in bounded time and memory."""

from collections.abc import Hashable
from typing import Any

import yaml

from setmatch.errors import short

_MAX_VALUES = 1_000_000  # with every alias replaced by what it stands for
_LONGEST_NUMBER = 1000  # letters
_MERGE = "tag:yaml.org,2002:merge"


class YamlError(Exception):
    """Text that is not valid YAML, or whose aliases repeat values without end."""


class _Loader(yaml.SafeLoader):
    """The safe loader, which replaces no alias until it knows how many values there will be.

    Numbers have no colons: YAML 1.1 reads 1:30 as 90, which YAML 1.2 has given up, and takes time
    that grows with the square of their length.
    """

    def compose_document(self) -> yaml.Node | None:
        """Return the nodes of a document. Raises yaml.YAMLError where aliases make too many."""
        root = super().compose_document()
        if root is not None:
            _count(root, {})
        return root

    def number(self, node: yaml.ScalarNode) -> int | float | str:
        """Return a number, or the text with a colon. Raises yaml.YAMLError for an endless one."""
        text = str(self.construct_scalar(node))
        if ":" in text:
            return text
        if len(text) > _LONGEST_NUMBER:
            problem = f"a number of {len(text):,} letters"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
        if node.tag.endswith(":int"):
            return self.construct_yaml_int(node)
        return self.construct_yaml_float(node)


for kind in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{kind}", _Loader.number)


class _UniqueKeyLoader(_Loader):
    """Refuses duplicate keys, of which YAML would drop the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Return the mapping of `node`. Raises yaml.YAMLError for a duplicate key."""
        seen: set[Hashable] = set()
        for inner, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if inner.tag == _MERGE:
                continue  # what it merges, the mapping's own keys replace
            key = self.construct_object(inner, deep=True)
            if key in seen:
                problem = f"duplicate key {short(key)}"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=inner.start_mark)
            seen.add(key)
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
    except (ArithmeticError, ValueError, TypeError, RecursionError, yaml.YAMLError) as error:
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
