"""Imports run downward only, and one file alone talks to other processes."""

import ast
import graphlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import setmatch
from syntax_trees import nodes_of

PACKAGE = Path(setmatch.__file__).parent

# From low to high. A room may import the layers below it and, in its own layer, the rooms listed
# before it; the rooms of a set never meet.
LAYERS: tuple[tuple[str, ...] | frozenset[str], ...] = (
    ("interruption", "errors", "argument_types", "usage_reports", "files"),
    ("structures", "ops", "html"),
    ("setting_values", "config", "recipe_text", "losses"),
    ("postprocessing", "distributed"),
    frozenset({"models", "data"}),
    ("visualize", "inference"),
    ("evaluation", "explanation", "deploy", "bulk"),
    ("training", "ablation", "tuning", "sharing"),
    ("__init__",),
    ("demo", "cli", "__main__"),
)


def module_of(path: Path) -> str:
    parts = ("setmatch", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {module_of(path): path.read_text("utf-8") for path in sorted(PACKAGE.rglob("*.py"))}


def room(module: str) -> str:
    """The room of setmatch.data.formats.coco.read is data; the package itself is __init__."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def layer(name: str) -> int:
    for height, rooms in enumerate(LAYERS):
        if name in rooms:
            return height
    raise AssertionError(f"setmatch.{name} has no layer yet: give it one in LAYERS")


def may_import(importer: str, imported: str) -> bool:
    if importer == imported:
        return True
    here, there = layer(importer), layer(imported)
    rooms = LAYERS[here]
    if here == there:
        return isinstance(rooms, tuple) and rooms.index(imported) < rooms.index(importer)
    return there < here


def statements(node: ast.AST) -> Iterator[ast.stmt]:
    """Every statement but those that only a type checker reads."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            child = ast.Module(child.orelse, [])
        elif isinstance(child, ast.stmt):
            yield child
        if not isinstance(child, ast.expr):  # in which no statement is
            yield from statements(child)


@cache
def imports(source: str) -> tuple[tuple[int, str], ...]:
    """(line, module) of every import, lazy ones too."""
    found = []
    for node in statements(nodes_of(source)[0]):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                deeper = inner in SOURCES or base == "torch"
                found.append((node.lineno, inner if deeper else base))
    return tuple(found)


def layer_breaks(module: str, source: str) -> list[str]:
    found = []
    for line, target in imports(source):
        if target.startswith("."):
            found.append(f"{module}:{line}: write imports in full, not {target}")
        elif target.split(".")[0] == "setmatch" and not may_import(room(module), room(target)):
            found.append(f"{module}:{line}: {room(module)} must not import {target}")
    return found


def talks_to_processes(source: str) -> bool:
    touched = any(target.startswith("torch.distributed") for _, target in imports(source))
    return touched or any(
        isinstance(node, ast.Attribute) and ast.unparse(node).startswith("torch.distributed")
        for node in nodes_of(source)
    )


def test_a_module_imports_only_what_lies_below_it():
    """The method can be read from the bottom up: nothing low knows anything high."""
    assert [each for module in SOURCES for each in layer_breaks(module, SOURCES[module])] == []


def import_graph(sources: dict[str, str]) -> dict[str, set[str]]:
    """Which module imports which other, inside functions too."""
    return {
        module: {target for _, target in imports(source) if target in sources} - {module}
        for module, source in sources.items()
    }


def test_no_circle_of_imports():
    """Every module can be read after those it imports, also inside a room."""
    graphlib.TopologicalSorter(import_graph(SOURCES)).prepare()


def test_a_circle_of_imports_is_noticed():
    """The rule about circles can fail, through an import inside a function too."""
    sources = {
        "setmatch.errors": "def f():\n    import setmatch.files.writing",
        "setmatch.files.writing": "import setmatch.errors",
    }
    graph = import_graph(sources)
    with pytest.raises(graphlib.CycleError):
        graphlib.TopologicalSorter(graph).prepare()


def test_only_the_runtime_talks_to_other_processes():
    """The number of processes is nobody's business but distributed.py's."""
    talking = [module for module in SOURCES if talks_to_processes(SOURCES[module])]
    assert talking == ["setmatch.distributed"]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("setmatch.models.layers.heads.heads", "import setmatch.data.dataset"),
        ("setmatch.losses.matcher", "from setmatch.models import detector"),
        ("setmatch.errors", "from setmatch.structures import Batch"),
        ("setmatch.data.formats.coco.read", "def f():\n    from setmatch.training import loop"),
        ("setmatch.config", "from setmatch import load"),
        ("setmatch.inference.predict", "from setmatch.evaluation.results import Report"),
        ("setmatch.training.loop.trainer", "from setmatch.cli import main"),
        ("setmatch.training.loop.trainer", "from . import saver"),
    ],
)
def test_an_upward_import_is_noticed(module: str, source: str):
    """The rule can fail: upward, sideways, lazy and relative imports are all seen."""
    assert len(layer_breaks(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("setmatch.models.layers.heads.heads", "from setmatch.models import attention"),
        ("setmatch.inference.predict", "from setmatch.visualize.boxes import draw"),
        ("setmatch.cli", "import setmatch"),
        (
            "setmatch.ops.boxes",
            "if TYPE_CHECKING:\n    from setmatch.training import loop\nelse:\n    import numpy",
        ),
    ],
)
def test_a_downward_import_is_allowed(module: str, source: str):
    """One's own room, lower ones, and names for a type checker alone are free."""
    assert layer_breaks(module, source) == []


@pytest.mark.parametrize(
    "source",
    [
        "import torch.distributed as dist",
        "from torch import distributed",
        "from torch.distributed import all_reduce",
        "import torch\ntorch.distributed.barrier()",
    ],
)
def test_talking_to_processes_is_noticed(source: str):
    """The rule can fail, in whichever way the module is reached."""
    assert talks_to_processes(source)
