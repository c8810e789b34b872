"""The syntax trees of source files, each parsed once however many rules read it."""

import ast
from functools import cache


@cache
def nodes_of(source: str) -> tuple[ast.AST, ...]:
    """Return all nodes of a module; the first one is the module itself."""
    return tuple(ast.walk(ast.parse(source)))
