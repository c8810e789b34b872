"""What the repository promises beside its code: a small interface, short recipes, a true README."""

import ast
import importlib.util
import inspect
import re
import subprocess
import sys
import tomllib
from operator import attrgetter
from pathlib import Path
from types import FunctionType, ModuleType

import pytest
import yaml
from pydantic import BaseModel

import setmatch
from setmatch.cli import app
from setmatch.config import Recipe
from setmatch.models.registry import FAMILIES
from setmatch.models.weights.downloads.download import PublishedRepository
from setmatch.recipe_text import RECIPES

ROOT = Path(__file__).parents[2]
PACKAGE = Path(setmatch.__file__).parent
ROOMS = ("models", "layers", "losses", "data", "data.transforms", "metrics", "engines")
MOST_NAMES = 24
LONGEST_RECIPE = 30
LONGEST_README = 160
WRITTEN = ("commands", "settings", "models", "api")  # pages of docs/reference
GENERATED = (*WRITTEN, *(f"api-{room}" for room in ROOMS))

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
    """At most 24 names beside the version, every one of them importable."""
    assert len(set(setmatch.__all__) - {"__version__"}) <= MOST_NAMES
    for name in setmatch.__all__:
        assert getattr(setmatch, name) is not None
        assert name in dir(setmatch)


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_of_a_room_is_there(room: str):
    """A room's __all__ is curated, and each name in it can be imported."""
    module = attrgetter(room)(setmatch)
    assert len(module.__all__) == len(set(module.__all__))
    for name in module.__all__:
        assert getattr(module, name) is not None


@pytest.mark.parametrize("stub", sorted(PACKAGE.rglob("*.pyi")), ids=lambda stub: stub.parent.name)
def test_type_checkers_see_the_names_that_exist(stub: Path):
    """The imports of a stub, which are also the lazy names, and its __all__ are one list."""
    tree = ast.parse(stub.read_text("utf-8"))
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    declared = [node.target.id for node in tree.body if isinstance(node, ast.AnnAssign)]
    names = [alias.name for node in imports for alias in node.names]
    (listed,) = (ast.literal_eval(n.value) for n in tree.body if isinstance(n, ast.Assign))
    assert sorted(listed) == sorted([*names, *declared])


@pytest.mark.parametrize("stub", sorted(PACKAGE.rglob("*.pyi")), ids=lambda stub: stub.parent.name)
def test_every_public_name_can_be_the_first_that_is_used(stub: Path):
    """A package offers its module only if its own stub does, or if others have imported it."""
    for node in ast.parse(stub.read_text("utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            source = stub.parent.joinpath(*node.module.split("."))
            if source.is_dir():
                offered = ast.parse((source / "__init__.pyi").read_text("utf-8"))
                names = {
                    alias.name
                    for each in offered.body
                    if isinstance(each, ast.ImportFrom)
                    for alias in each.names
                }
                assert {alias.name for alias in node.names} <= names, source


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


def test_predicting_with_an_exported_file_loads_no_torch():
    """Its import takes seconds, and half a gigabyte of memory."""
    code = (
        "import setmatch.cli, setmatch.inference.arrays.predict_folder, sys\n"
        "print({'torch', 'torchvision', 'scipy', 'hotcoco', 'pandas'} & {*sys.modules})"
    )
    assert run(code) == "set()"


def test_no_module_hides_behind_a_function():
    """setmatch.predict is the function, whatever is imported first: rooms are nouns."""
    functions = [name for name in setmatch.__all__ if inspect.isfunction(getattr(setmatch, name))]
    modules = {path.stem for path in PACKAGE.iterdir()}
    assert functions
    assert modules & set(functions) == set()


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_recipe_says_only_what_differs(path: Path):
    """A recipe has at most 30 lines and opens by saying what it is for."""
    lines = path.read_text("utf-8").splitlines()
    assert len(lines) <= LONGEST_RECIPE
    assert lines[0].startswith("# ")


def test_the_readme_fits_its_purpose():
    """A newcomer reads it in minutes, with an image on the first screen."""
    lines = (ROOT / "README.md").read_text("utf-8").splitlines()
    assert len(lines) <= LONGEST_README
    assert any("docs/images/" in line for line in lines[:12])


def test_the_security_page_names_the_weights_of_no_fixed_commit():
    """They are whatever the hub has today, so that nothing else can vouch for them."""
    page = (ROOT / "SECURITY.md").read_text("utf-8")
    promise = next(each for each in page.split("\n- ") if "newest commit" in each)
    assert FAMILIES  # importing the registry imports all families
    published = [
        item
        for name, module in sys.modules.items()
        if name.startswith("setmatch.models.") and isinstance(vars(module).get("PUBLISHED"), dict)
        for item in module.PUBLISHED.items()
    ]
    repositories = {name: each for name, each in published if isinstance(each, PublishedRepository)}
    newest = {name for name, each in repositories.items() if each.revision is None}
    assert {"dfine_x", "dab_detr_r50"} < newest < {*repositories}
    assert {*re.findall(r"`(\w+)`", promise)} == newest


PAGES = [
    path
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("decisions/*.md"))
    if path.parent.name != "reference"
]
LINK = re.compile(r"""\]\(([^)\s]+)\)|(?:src|href)="([^"]+)\"""")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path):
    """Relative links of README, docs and decisions name files and headings that exist."""
    broken = []
    for link in ("".join(found) for found in LINK.findall(page.read_text("utf-8"))):
        target, _, heading = link.partition("#")
        if target.startswith(("http:", "https:")):
            continue
        path = (page.parent / target).resolve() if target else page
        if path.parent == ROOT / "docs" / "reference":
            missing = path.stem not in GENERATED
        else:
            missing = not path.exists() or (bool(heading) and heading not in headings_of(path))
        broken += [link] if missing else []
    assert broken == []


def headings_of(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and the site make them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_page_is_in_the_navigation():
    """A page that the site's menu does not list would not be found."""
    listed = set(re.findall(r": ([\w/.-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    docs = ROOT / "docs"
    written = {str(page.relative_to(docs)) for page in PAGES if docs in page.parents}
    assert listed == written | {f"reference/{name}.md" for name in GENERATED}


@pytest.mark.parametrize("name", WRITTEN)
def test_the_reference_pages_are_complete(name: str):
    """Every command, setting, preset, recipe and public name is in the generated reference."""
    text = getattr(generate_reference(), name)()
    expected = {
        "commands": [f"## setmatch {verb}" for verb in app if not verb.startswith("-")],
        "settings": [f"`{key}`" for key in settings_of(Recipe)]
        + [f"### {path.stem}" for path in RECIPES.glob("*.yaml")],
        "models": ["setmatch_n ", "detr_r50 ", "bloodcells_n "],
        "api": [".train\n", ".Detections\n", ".load_recipe\n"],
    }[name]
    assert [line for line in expected if line not in text] == []


@pytest.mark.parametrize("name", ROOMS)
def test_the_reference_has_every_name_of_a_room(name: str):
    """The page of a room has an entry for each of its public functions and classes."""
    text, room = generate_reference().api_of_room(name), attrgetter(name)(setmatch)
    public = {each: getattr(room, each) for each in room.__all__}
    entries = [name for name, value in public.items() if isinstance(value, FunctionType | type)]
    assert entries
    assert [each for each in entries if f".{each}\n" not in text] == []


def test_every_setting_says_what_it_means():
    """A setting without a description would be an empty cell in the reference."""
    module = generate_reference()
    silent = [
        key
        for section, field in Recipe.model_fields.items()
        if field.default is not None
        for key, _, _, meaning in module.setting_rows(section, type(field.default))
        if not meaning
    ]
    assert silent == []


def test_every_option_says_what_it_means():
    """An option without a help text would be an empty cell in the reference."""
    rows = [line for line in generate_reference().commands().splitlines() if line[:3] == "| `"]
    assert [row for row in rows if row.endswith("|  |")] == []


def settings_of(section: type[BaseModel]) -> list[str]:
    return [
        f"{name}.{field.alias or key}"
        for name, part in section.model_fields.items()
        if part.default is not None
        for key, field in type(part.default).model_fields.items()
    ]


def generate_reference() -> ModuleType:
    path = ROOT / "docs" / "generate_reference.py"
    spec = importlib.util.spec_from_file_location("generate_reference", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_dependency_is_listed_with_its_license():
    """A dependency that the documentation does not explain would be one without a reason."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    page = (ROOT / "docs" / "explanation" / "dependencies.md").read_text("utf-8")
    optional = [each for name in extras if name != "dev" for each in extras[name]]
    required = [*project["dependencies"], *optional]
    names = [re.split(r"[^\w-]", requirement)[0] for requirement in required]
    assert [name for name in names if name.removesuffix("-python") not in page] == []


def test_the_version_is_written_once():
    """pyproject.toml has the version; the citation repeats it; the code asks the installation."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))["version"] == version
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text("utf-8")


@pytest.mark.parametrize("path", sorted((ROOT / ".github").rglob("*.yml")), ids=lambda p: p.name)
def test_github_files_are_valid_yaml(path: Path):
    """A workflow or form with a syntax error would be ignored silently."""
    assert isinstance(yaml.safe_load(path.read_text("utf-8")), dict)


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
