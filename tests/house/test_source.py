"""The taste that is checked: short files, names that say something, nothing that runs its input."""

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

import setmatch
from syntax_trees import nodes_of

PACKAGE = Path(setmatch.__file__).parent
ROOT = Path(__file__).parents[2]
FOLDERS = (PACKAGE, ROOT / "tests", ROOT / "benchmarks")
PATHS = sorted(path for folder in FOLDERS for path in folder.rglob("*.py"))
SOURCES = {str(path.relative_to(ROOT)): path.read_text("utf-8") for path in PATHS}
PRODUCT = {name: source for name, source in SOURCES.items() if name.startswith("src")}

LONGEST_FILE = 500
DRAWERS = {"utils", "util", "misc", "common", "helpers", "helper"}
HEAVY = {
    *(
        "matplotlib",
        "transformers",
        "huggingface_hub",
        "timm",
        "tensorboard",
        "wandb",
        "mlflow",
        "trackio",
    ),
    *("onnx", "onnxruntime", "openvino", "ray", "av", "optuna", "sklearn", "supervision", "pandas"),
    *("fastapi", "starlette", "uvicorn", "prometheus_client", "python_multipart"),
    *("pyarrow", "fsspec", "dask", "pyspark"),
    *("trackers", "cv2"),
}
TEST_ONLY = {"pycocotools", "hypothesis", "pytest", "beartype"}
RUNS_ITS_INPUT = {"eval", "exec", "__import__", "os.system", "os.popen"}
UNSAFE_YAML = {"yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load"}
PICKLES = {"pickle", "dill", "marshal", "shelve", "joblib"}
SUFFIX_METHODS = {"removesuffix", "endswith"}
CATCH_ALL = {"Exception", "BaseException"}
TAGS = (
    "a article b body br button canvas circle code details div em figcaption figure footer form g "
    "h1 h2 h3 h4 head header html i image img input label li line link main meta ol option output "
    "p path polyline pre rect script section select small span strong style sub summary sup svg "
    "table tbody td text th thead title tr ul use"
).replace(" ", "|")
MARKUP = re.compile(rf"</?(?:{TAGS})(?=[\s/>]|$)|<!doctype", re.IGNORECASE)


def is_drawer(name: str) -> bool:
    """Says whether some part of a path is a drawer for anything, or a second version."""
    stems = [part.removesuffix(".py").lower() for part in Path(name).parts]
    return any(s in DRAWERS or (s[-3:-1] == "_v" and s[-1].isdigit()) for s in stems)


def unsafe(source: str) -> list[str]:
    """Where a source runs what it is given, or swallows errors that it does not know."""
    nodes = [node for node in nodes_of(source) if _is_unsafe(node)]
    return [f"{node.lineno}: {ast.unparse(node)}" for node in nodes]


def _is_unsafe(node: ast.AST) -> bool:
    match node:
        case ast.ExceptHandler():
            catches_all = node.type is None or bool(_names(node.type) & CATCH_ALL)
            return catches_all and not _raises(node)
        case ast.ImportFrom():
            return node.module in PICKLES | {"yaml"}
        case ast.Call():
            name = ast.unparse(node.func)
            flags = {k.arg: ast.unparse(k.value) for k in node.keywords}
            return (
                name in RUNS_ITS_INPUT | UNSAFE_YAML
                or name.split(".")[0] in PICKLES
                or (name == "torch.load" and flags.get("weights_only") != "True")
                or flags.get("weights_only") == "False"
                or flags.get("allow_pickle", "False") != "False"
                or flags.get("shell", "False") != "False"
                or (name.endswith("suppress") and bool(_names(node) & CATCH_ALL))
            )
    return False


def reads_anything(source: str) -> list[str]:
    """Where a source reads a path that may be a FIFO or a device."""
    return [
        f"{node.lineno}: {ast.unparse(node)}"
        for node in nodes_of(source)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and (
            node.func.attr in {"read_text", "read_bytes"}
            or (node.func.attr == "open" and "'rb'" in map(ast.unparse, node.args))
        )
    ]


def _raises(handler: ast.ExceptHandler) -> bool:
    """Whether every way through a handler ends in an error: nothing is swallowed."""
    leaves = (ast.Return, ast.Continue, ast.Break)
    return isinstance(handler.body[-1], ast.Raise) and not any(
        isinstance(node, leaves) for node in ast.walk(handler)
    )


def _names(node: ast.AST) -> set[str]:
    return {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}


def detector_classes(sources: Iterable[str]) -> set[str]:
    """Return the names of Detector and all classes derived from it."""
    nodes = [node for source in sources for node in nodes_of(source)]
    bases = {
        n.name: set().union(*map(_names, n.bases)) for n in nodes if isinstance(n, ast.ClassDef)
    }
    classes: set[str] = set()
    larger = {"Detector"}
    while larger > classes:
        classes = larger
        larger = classes | {name for name, above in bases.items() if above & classes}
    return classes


@cache
def detectors() -> set[str]:
    """Return the classes whose members others ask for what a detector offers, never its class."""
    return detector_classes(PRODUCT.values())


def attributes_of_protocols(source: str) -> list[str]:
    """List the annotated attributes of protocols that `isinstance` reads.

    From Python 3.12 on it looks for attributes without calling __getattr__, by which an nn.Module
    gives its parts. So a model has such an attribute in Python 3.11 alone.
    """
    return [
        f"line {member.lineno}: {node.name} asks for an attribute"
        for node in nodes_of(source)
        if isinstance(node, ast.ClassDef)
        and any(ast.unparse(each).endswith("runtime_checkable") for each in node.decorator_list)
        for member in node.body
        if isinstance(member, ast.AnnAssign)
    ]


def depends_on_detector_class(source: str) -> list[str]:
    """List where a source asks for a detector's class, or reads `_panoptic` off a name."""
    found = []
    for node in nodes_of(source):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func) if isinstance(node.func, ast.Name | ast.Attribute) else ""
        if name.rpartition(".")[2] not in {"isinstance", "issubclass"} | SUFFIX_METHODS:
            continue
        words = {n.id for arg in node.args[1:] for n in ast.walk(arg) if isinstance(n, ast.Name)}
        suffix = node.args and ast.unparse(node.args[0]) == "'_panoptic'"
        if (name in {"isinstance", "issubclass"} and words & detectors()) or (
            name.rpartition(".")[2] in SUFFIX_METHODS and suffix
        ):
            found.append(f"{node.lineno}: {ast.unparse(node)}")
    return found


def eager_imports(source: str, libraries: set[str]) -> list[str]:
    """Which of the libraries are imported as soon as the module is."""
    found = []
    for node in _at_import(nodes_of(source)[0]):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        found += [f"{node.lineno}: {n}" for n in names if n.split(".")[0] in libraries]
    return found


def _at_import(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    for child in ast.iter_child_nodes(node):
        lazy = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        typing = isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING")
        if not lazy and not typing:
            yield from _at_import(child)


def markup(source: str) -> list[str]:
    """Which string literals hold HTML or SVG tags, and what switches escaping off."""
    found = []
    for node in nodes_of(source):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found += [f"{node.lineno}: {tag}" for tag in MARKUP.findall(node.value)]
        if isinstance(node, ast.ImportFrom) and node.module == "markupsafe":
            found.append(f"{node.lineno}: markupsafe")
    return found


def shaped_aliases(source: str) -> list[str]:
    """Return the shapes that are of `NDArray[...]`, which is no class in every NumPy."""
    return [
        ast.unparse(node)
        for node in nodes_of(source)
        if isinstance(node, ast.Subscript)
        and isinstance(node.slice, ast.Tuple)
        and isinstance(node.slice.elts[-1], ast.Constant)
        and ast.unparse(node.slice.elts[0]).startswith("NDArray")
    ]


def imports_for_tests(source: str) -> list[str]:
    """Which test libraries a source imports, anywhere."""
    nodes = nodes_of(source)
    names = {a.name for node in nodes if isinstance(node, ast.Import) for a in node.names}
    names |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    return sorted(name for name in names if name.split(".")[0] in TEST_ONLY)


def found(check: Callable[[str], list[str]], names: Iterable[str] = PRODUCT) -> list[str]:
    """Return what `check` finds in the files called `names`, each with its place."""
    return [f"{name}:{problem}" for name in names for problem in check(SOURCES[name])]


def test_modules_of_tests_and_benchmarks_have_different_names():
    """Both folders are searched for modules, so that one would hide the other."""
    names = [
        {path.stem for path in (ROOT / folder).glob("*.py")} for folder in ("tests", "benchmarks")
    ]
    assert names[0] & names[1] == set()


def test_a_file_is_read_in_one_sitting():
    """No file has more than 500 lines, and none is a drawer or a second version."""
    assert [name for name in SOURCES if len(SOURCES[name].splitlines()) > LONGEST_FILE] == []
    assert [name for name in SOURCES if is_drawer(name)] == []


def test_nothing_runs_its_input_or_swallows_errors():
    """No weights, recipe or server response can run code, and no unknown error is hidden."""
    assert found(unsafe) == []


def test_files_are_read_in_one_place():
    """Through reading.py, which opens regular files only."""
    assert found(reads_anything) == []


@pytest.mark.parametrize("call", ["path.read_text()", "(a / b).read_bytes()", "path.open('rb')"])
def test_reading_elsewhere_is_noticed(call: str):
    """The rule about reading can fail."""
    assert len(reads_anything(call)) == 1


def test_no_markup_is_built_in_python():
    """HTML and SVG stand in jinja2 templates, which escape every value."""
    assert found(markup) == []


@pytest.mark.parametrize(
    "source",
    [
        "'<div class=\"a\">'",
        "f'<td>{cell}</td>'",
        "'<svg '",
        "'<p'",
        "from markupsafe import Markup",
    ],
)
def test_markup_in_python_is_noticed(source: str):
    assert markup(source)
    assert markup("'a < b', '<pad>', 'List<int>', '<stdin>'") == []


def test_heavy_libraries_wait_until_they_are_needed():
    """What is optional or slow to import is imported by the function that needs it."""
    assert found(lambda source: eager_imports(source, HEAVY)) == []


def test_shapes_are_of_types_that_any_numpy_has():
    """NumPy 2.5 made NDArray an alias that jaxtyping cannot take: nothing could be imported."""
    assert found(shaped_aliases) == []


def test_the_product_needs_no_testing_tool():
    """Oracles and test libraries stay in the tests, even lazily."""
    assert found(imports_for_tests) == []


def test_a_testing_tool_is_noticed():
    """The rule above can fail, inside a function too."""
    assert imports_for_tests("def f():\n    import pytest.mark\nfrom hypothesis import given") != []
    assert imports_for_tests("import torch") == []


# These take a detector or a factory, and ask which of the two they were given.
TAKE_EITHER = ("src/setmatch/training/start/own_model.py", "src/setmatch/models/factory.py")
SHARED = ("backbones", "layers", "weights")  # folders of models/ that are no family


def test_isinstance_finds_all_of_a_protocol():
    assert found(attributes_of_protocols, PRODUCT) == []


def test_an_attribute_of_a_protocol_is_noticed():
    lines = ("@typing.runtime_checkable", "class Named(Protocol):", "    name: str")
    assert attributes_of_protocols("\n".join(lines)) == ["line 3: Named asks for an attribute"]
    assert attributes_of_protocols("\n".join(lines[1:])) == []


def test_code_outside_a_family_does_not_ask_for_a_detectors_class():
    """A family added from outside works everywhere."""

    def is_of_a_family(name: str) -> bool:
        folders = name.partition("src/setmatch/models/")[2].split("/")[:-1]
        return bool(folders) and folders[0] not in SHARED

    outside = [each for each in PRODUCT if not is_of_a_family(each) and each not in TAKE_EITHER]
    assert found(depends_on_detector_class, outside) == []


def test_the_classes_of_detectors_are_known():
    """They are looked for: a new family needs no line here."""
    assert {"Detector", "DETR", "RTDetrDetector", "RFDETRDetector", "DeformableDETR"} < detectors()


@pytest.mark.parametrize(
    "source",
    [
        "isinstance(model, DETR)",
        "isinstance(model, DETR | SetMatchDetector)",
        "isinstance(model, (Detector, int))",
        "name.removesuffix('_panoptic')",
        'name.endswith("_panoptic")',
    ],
)
def test_a_question_for_the_class_is_noticed(source: str):
    """The rule about detectors can fail."""
    assert len(depends_on_detector_class(source)) == 1


@pytest.mark.parametrize(
    "name", ["src/setmatch/utils.py", "src/misc/a.py", "models/detector_v2.py", "Common.py"]
)
def test_a_drawer_is_noticed(name: str):
    """The rule about names can fail."""
    assert is_drawer(name)


@pytest.mark.parametrize(
    "source",
    [
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "read(path, weights_only=False)",
        "yaml.load(text, Loader=yaml.SafeLoader)",
        "from yaml import load",
        "pickle.loads(data)",
        "from pickle import load",
        "numpy.load(path, allow_pickle=True)",
        "subprocess.run(line, shell=True)",
        "eval(text)",
        "try: pass\nexcept: pass",
        "try: pass\nexcept Exception: pass",
        "try: pass\nexcept (OSError, Exception) as error: pass",
        "try: pass\nexcept BaseException: pass",
        "try: pass\nexcept Exception:\n    if known: raise",
        "def f():\n try: pass\n except Exception:\n  if known: return\n  raise",
        "with contextlib.suppress(Exception): pass",
    ],
)
def test_unsafe_code_is_noticed(source: str):
    """The rule about safety can fail, in each of the ways it knows."""
    assert len(unsafe(source)) == 1


@pytest.mark.parametrize(
    "source",
    [
        "torch.load(path, weights_only=True)",
        "yaml.safe_load(text)",
        "model.eval()",
        "try: pass\nexcept (OSError, ValueError): pass",
        "try: pass\nexcept Exception as error:\n    raise DataError(path) from error",
    ],
)
def test_safe_code_is_left_alone(source: str):
    """The rule about safety does not cry wolf."""
    assert unsafe(source) == []


def test_a_shaped_alias_is_noticed():
    """The rule above can fail."""
    assert shaped_aliases('x: Int64[NDArray[np.int64], " N"]\ny: dict[str, NDArray[Any]]') != []
    assert shaped_aliases('x: Int64[np.ndarray, " N"]\ny: dict[str, NDArray[Any]]') == []


def test_an_eager_import_is_noticed():
    """The rule about heavy libraries can fail, at the top, in a class and under a condition."""
    lines = "import timm.models\nclass A:\n  from av import open\nif x:\n  import ray\n"
    assert len(eager_imports(lines, HEAVY)) == 3
    assert eager_imports("def f():\n  import timm\n", HEAVY) == []
