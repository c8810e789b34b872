"""What the repository promises beside its code: a small interface, short recipes, a true README."""

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import setmatch
from setmatch.cli import app
from setmatch.config import RECIPES

ROOT = Path(__file__).parents[2]
MOST_NAMES = 20
LONGEST_RECIPE = 30

# With a class of one letter in each, so that this file does not break the rule it holds.
PRIVATE = re.compile(
    r"/[w]ork/|/[r]oot/|/[h]ome/\w|/opt/(?:[w]heels|[p]ypi)|\.\./[s]hared"
    r"|[i]ndex-url|[f]ind-links|[t]rusted-host|[f]ile://|https?://(?:[l]ocalhost|\d+\.\d+\.\d+)"
)


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return [ROOT / name for name in listed.stdout.split("\0") if name]


def text_of(path: Path) -> str:
    data = path.read_bytes()
    return "" if b"\0" in data else data.decode("utf-8")


def run(code: str) -> str:
    """What a fresh interpreter prints, without the tests' own imports and hooks."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_public_interface_is_small_and_there():
    """At most 20 names, every one of them importable."""
    assert len(setmatch.__all__) <= MOST_NAMES
    for name in setmatch.__all__:
        assert getattr(setmatch, name) is not None
        assert name in dir(setmatch)


def test_type_checkers_see_the_names_that_exist():
    """The lazy names, the names for type checkers and __all__ are one list."""
    tree = ast.parse(inspect.getsource(setmatch))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    imported = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    homes = {alias.asname: node.module for node in imported for alias in node.names}
    assert homes == setmatch._HOMES
    assert sorted(setmatch.__all__) == sorted([*homes, "__version__"])


def test_an_unknown_name_is_an_attribute_error():
    """What does not exist fails as in any module."""
    with pytest.raises(AttributeError, match=r"setmatch.*nothing"):
        _ = setmatch.nothing


def test_importing_setmatch_loads_nothing_heavy():
    """`import setmatch` and its version cost no torch, so that --help is quick."""
    code = (
        "import setmatch, sys; setmatch.__version__\n"
        "print({'torch', 'numpy', 'scipy', 'PIL', 'pydantic', 'rich', 'jinja2'} & {*sys.modules})"
    )
    assert run(code) == "set()"


def test_no_module_hides_behind_a_function():
    """setmatch.predict is the function, whatever is imported first: rooms are nouns."""
    names = [name for name in setmatch.__all__ if not name.startswith("_")]
    rooms = {path.stem for path in Path(setmatch.__file__).parent.iterdir()}
    assert rooms & set(names) == set()


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_recipe_says_only_what_differs(path: Path):
    """A recipe has at most 30 lines and opens by saying what it is for."""
    lines = path.read_text("utf-8").splitlines()
    assert len(lines) <= LONGEST_RECIPE
    assert lines[0].startswith("# ")


def test_the_readme_knows_every_verb_recipe_and_model():
    """What the command line can do stands in the README."""
    from setmatch.models.registry import MODELS

    readme = (ROOT / "README.md").read_text("utf-8")
    verbs = [name for name in app if not name.startswith("-")]
    assert len(verbs) >= 6
    missing = [verb for verb in verbs if f"setmatch {verb}" not in readme]
    missing += [path.stem for path in RECIPES.glob("*.yaml") if f"`{path.stem}`" not in readme]
    missing += [name for name in MODELS if f"`{name}`" not in readme]
    assert missing == []


def test_what_the_readme_points_to_is_there():
    """Every relative link of the README leads somewhere."""
    readme = (ROOT / "README.md").read_text("utf-8")
    links = re.findall(r"\]\(([^)#]+)\)", readme)
    local = [link for link in links if not link.startswith("http")]
    assert local
    assert [link for link in local if not (ROOT / link).exists()] == []


def test_no_file_names_a_private_place():
    """What is committed works on any machine: no local path, no address of a package index."""
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}"
        for path in tracked()
        if path.is_file()
        for number, line in enumerate(text_of(path).splitlines(), start=1)
        if PRIVATE.search(line)
    ]
    assert found == []


@pytest.mark.parametrize(
    "line",
    ["/ho_me/ann/x", "cd /wo_rk/main", "pip --extra-ind_ex-url x", "../sha_red/a", "fi_le:///x"],
)
def test_a_private_place_is_noticed(line: str):
    """The rule about private places can fail."""
    assert PRIVATE.search(line.replace("_", ""))
    assert not PRIVATE.search("from the network at https://arxiv.org/abs/2005.12872")


def test_no_large_file_is_committed():
    """A clone stays small: nothing over 2 MB."""
    assert [p.name for p in tracked() if p.is_file() and p.stat().st_size > 2_000_000] == []


def test_every_decision_is_a_page():
    """decisions/ holds numbered pages that open with a title."""
    pages = sorted((ROOT / "decisions").glob("*.md"))
    assert pages
    for number, page in enumerate(pages, start=1):
        assert page.name.startswith(f"{number:04d}-")
        assert page.read_text("utf-8").startswith("# ")
