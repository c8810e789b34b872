"""Every Python and shell block of the README and the documentation runs, in order, page by page.

A Python block that starts with a comment `# NAME.py` is a file of the reader's own: it is written
to the current folder instead.
"""

import re
import shlex
import shutil
from contextlib import suppress
from pathlib import Path
from unittest import SkipTest

import pytest
from sandbox import keep_short, make_sandbox
from sybil import Example, Sybil
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser, SkipParser

from checked_types import unchecked
from setmatch.cli import main
from setmatch.data.formats.registry import FORMATS
from thorough import usually

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
    *sorted(page for page in (ROOT / "docs").rglob("*.md") if page.parent.name != "reference"),
]
# Their blocks take from 2 s to a minute of processor time, all others together 13 s.
DEAR = {
    *("explain", "export", "extend", "fine-tune", "large-images", "masks", "million-images"),
    *("getting-started", "notebook", "own-data", "read-the-report", "small-data-sets", "tune"),
}
OTHERS = [page for page in PAGES if page.stem not in DEAR]


def run_shell(example: Example) -> None:
    """Run each `setmatch ...` line of a shell block in this process."""
    for line in example.parsed.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if not words:
            continue
        program = next(
            n for n in (1, 3) if words[:n] in (["setmatch"], ["python", "-m", "setmatch"])
        )
        assert main(words[program:]) == 0, line


run_code = PythonEvaluator()


def run_python(example: Example) -> None:
    """Run a Python block, or write it if it is a file."""
    named = re.match(r"# (\w+\.py)\n", example.parsed)
    if named is None:
        run_code(example)
    else:
        Path(named[1]).write_text(example.parsed, encoding="utf-8")


BLOCKS = Sybil(
    [CodeBlockParser("python", run_python), CodeBlockParser("sh", run_shell), SkipParser()],
    pattern="*.md",
)


@pytest.fixture(autouse=True)
def formats_of_the_page():
    """Forget the data formats that a page adds."""
    before = [*FORMATS]
    yield
    FORMATS[:] = before


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sandbox(tmp_path_factory.mktemp("sandbox"))


@pytest.mark.timeout(900)  # a page exports twice, however busy the machine is
@pytest.mark.parametrize(
    "page", usually(PAGES, *OTHERS), ids=lambda page: str(page.relative_to(ROOT))
)
def test_the_blocks_of_a_page_run(
    page: Path, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A block that needs the network or several processes names its reason in a skip comment."""
    folder = shutil.copytree(made, tmp_path / "sandbox")
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)  # as `python -m` does
    keep_short(monkeypatch)
    for example in BLOCKS.parse(page).examples():
        if isinstance(example.parsed, tuple):
            action, reason = example.parsed
            assert reason or action == "end", f"line {example.line}: a skip comment needs a reason"
        with suppress(SkipTest), unchecked():
            example.evaluate()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_names_its_language(page: Path):
    """A block without a language would be neither highlighted nor run."""
    fences = [line.strip() for line in page.read_text("utf-8").splitlines() if "```" in line]
    # Those in JavaScript and C++ are run by tests/deploy.
    known = {"```python", "```sh", "```text", "```yaml", "```javascript", "```cpp"}
    assert [fence for fence in fences[::2] if fence not in known] == []
    assert set(fences[1::2]) <= {"```"}
