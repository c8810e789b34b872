"""The audit as a user meets it: terminal, JSON, page, recipe and exit code."""

import io
import json
import re
import shlex
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

import setmatch.data.open as open_module
from setmatch.cli import main
from setmatch.config import Recipe
from setmatch.data.audit.audit import DataAudit, UnfixableDataError, audit
from setmatch.data.audit.console import render
from setmatch.data.audit.html import write_page
from setmatch.data.convert import convert_dataset
from setmatch.data.dataset import DetectionDataset
from setmatch.data.synthetic.scenes import write_scenes
from setmatch.errors import DataError
from setmatch.recipe_text import load_recipe


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated scenes without problems."""
    folder = tmp_path_factory.mktemp("clean")
    write_scenes(folder, 12, 4, 96, 0, workers=1)
    return folder


@pytest.fixture(scope="module")
def dirty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes with a box without area, markup in names, a truncated and a leaked image."""
    folder = tmp_path_factory.mktemp("dirty <b>")
    write_scenes(folder, 12, 4, 96, 0, workers=1)
    source = folder / "annotations" / "train.json"
    tree = json.loads(source.read_text())
    tree["annotations"][0]["bbox"][2] = 0
    tree["categories"][0]["name"] = "[red]<script>alert(1)</script>"
    source.write_text(json.dumps(tree))
    files = [folder / "images" / image["file_name"] for image in tree["images"]]
    if not files[0].exists():
        files = [folder / "images" / "train" / image["file_name"] for image in tree["images"]]
    files[1].write_bytes(files[1].read_bytes()[:-300])
    other = json.loads((folder / "annotations" / "val.json").read_text())
    leak = next(path for path in folder.rglob("*") if path.name == other["images"][0]["file_name"])
    with Image.open(files[2]) as image:
        image.load()
    image.save(leak)
    return folder


def printed(result: DataAudit) -> str:
    console = Console(width=80, file=io.StringIO())
    console.print(render(result))
    return console.file.getvalue()


def test_a_clean_data_set_has_no_errors(clean: Path):
    result = audit(clean, has_gpu=False)
    assert result.error_count == 0
    result.require_no_errors()
    opened = {split: len(checks) for split, checks in result.image_checks.items()}
    assert opened == {"train": 12, "val": 4}
    assert [each.name for each in result.statistics] == ["train", "val", "all"]


def test_problems_in_annotations_files_and_splits_are_found(dirty: Path):
    result = audit(dirty, has_gpu=False)
    severities = {finding.kind: finding.severity for finding in result.findings}
    assert severities["image that cannot be read"] == "error"
    assert severities["box without area"] == "fixed"
    assert severities["near duplicate of an image in another split"] == "note"
    assert result.error_count == 1
    with pytest.raises(UnfixableDataError, match="1 problem must be fixed by hand"):
        result.require_no_errors()


def test_the_console_output_fits_80_columns(dirty: Path):
    """Names with markup are printed as they are."""
    text = printed(audit(dirty, has_gpu=False))
    assert max(map(len, text.splitlines())) <= 80
    for words in (
        "Must be fixed by hand",
        "Worth knowing",
        "Recommended training",
        "[red]<script>",
        "epochs:",
    ):
        assert words in text


class Links(HTMLParser):
    """Collects what a page would fetch or run."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.opened: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.opened.append(tag)
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href", "srcset")]


def test_the_page_is_self_contained(dirty: Path, tmp_path: Path):
    """Images are embedded, nothing is fetched or run, and names cannot inject markup."""
    write_page(audit(dirty, has_gpu=False), tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    links = Links()
    links.feed(text)
    assert links.fetched
    assert all(link.startswith("data:image/jpeg;base64,") for link in links.fetched)
    assert "script" not in links.opened
    assert "&lt;script&gt;" in text
    assert not re.search(r"url\(|@import|\bon\w+=", text)
    assert links.opened.count("img") == 11 + 4 + 2  # one cannot be read, two are near duplicates
    assert links.opened.count("figure") == links.opened.count("img") + 4


def test_no_table_is_cut_off_on_a_phone(tmp_path: Path, open_page):
    """Three splits and their sum fit; classes without a box share one line."""
    write_scenes(tmp_path / "train", 6, 4, 64, 2, 0)
    convert_dataset(tmp_path / "train", tmp_path / "set", "coco")
    tree = json.loads((tmp_path / "set/annotations/val.json").read_text())
    tree["categories"] += [{"id": 100 + k, "name": f"absent {k}"} for k in range(40)]
    (tmp_path / "set/annotations/val.json").write_text(json.dumps(tree))
    (tmp_path / "set/annotations/test.json").write_text(json.dumps(tree))
    shutil.copytree(tmp_path / "set/images/val", tmp_path / "set/images/test")
    write_page(audit(tmp_path / "set", has_gpu=False), tmp_path / "page.html")
    page = open_page(tmp_path / "page.html", width=390, height=844)
    right = "[...document.querySelectorAll('td')].map(cell => cell.getBoundingClientRect().right)"
    assert max(page.evaluate(right)) <= 390
    text = page.inner_text("body")
    assert "40 without a box: absent 0, absent 1" in text


def test_the_command_writes_all_files_and_exits_with_1(dirty: Path, tmp_path: Path, capsys):
    """JSON, page, recipe and fixed copy are written although there is an error."""
    names = {"json": "s.json", "html": "s.html", "write-recipe": "plan.yaml", "fix": "fixed"}
    options = [part for key, name in names.items() for part in (f"--{key}", str(tmp_path / name))]
    assert main(["audit", str(dirty), *options]) == 1
    printed = capsys.readouterr()
    assert "changes: 1, listed in" in printed.out
    assert printed.err.count("\n") == 1
    tree = json.loads((tmp_path / "s.json").read_text())
    assert printed.out.count(f"--recipe {tmp_path / 'plan.yaml'} --weights scenes_n") == 1
    assert tree["errors"] == 1
    assert tree["statistics"]["all"]["images"] == 16
    assert {"severity", "kind", "file", "annotation", "value", "action"} <= {*tree["findings"][0]}
    recipe = load_recipe(tmp_path / "plan.yaml")
    assert recipe.model_dump(by_alias=True) == tree["plan"]["recipe"]
    assert (tmp_path / "fixed" / "annotations" / "train.json").exists()
    assert (tmp_path / "s.html").exists()


def test_the_printed_commands_of_a_plan_run(tmp_path: Path, monkeypatch):
    """One writes the recipe, the next trains by it, even for a folder with a space in its name."""
    monkeypatch.chdir(tmp_path)
    write_scenes(tmp_path / "my data", 16, 4, 64, 2, 0)
    result = audit("my data", has_gpu=False, format="coco")
    first, second = map(shlex.split, result.commands)
    assert main(first[1:]) == 0
    assert main([*second[1:], "--epochs", "1", "--set", "train.evaluate_every=1"]) == 0
    assert (tmp_path / "runs/first/best").is_dir()


def test_the_command_exits_with_0_without_errors(clean: Path, capsys):
    """Notes are no failure."""
    assert main(["audit", str(clean)]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("option", ["--json", "--html", "--write-recipe", "--fix"])
def test_files_that_cannot_be_written_are_refused_first(
    clean: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str
):
    (tmp_path / "file").write_text("")
    assert main(["audit", str(clean), option, str(tmp_path / "file" / "out")]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "file is not a folder; name another" in printed.err


def test_a_split_that_cannot_be_read_is_a_finding(clean: Path, tmp_path: Path):
    """The other splits are audited nevertheless."""
    for path in clean.rglob("*"):
        if path.is_file():
            copy = tmp_path / path.relative_to(clean)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    broken = tmp_path / "annotations" / "val.json"
    broken.write_text(broken.read_text()[:-100])
    result = audit(tmp_path, has_gpu=False)
    (unreadable,) = (each for each in result.findings if each.severity == "error")
    assert "val.json" in unreadable.value
    assert [each.name for each in result.statistics] == ["train"]


def test_each_annotation_file_is_read_once(clean: Path, tmp_path: Path, monkeypatch):
    """Also if the validation split is held out of the training split, which shares its file."""
    shutil.copytree(clean, tmp_path / "data")
    (tmp_path / "data" / "annotations" / "val.json").unlink()
    sources = []
    read = open_module.cached
    monkeypatch.setattr(open_module, "cached", lambda part: sources.append(part) or read(part))
    result = audit(tmp_path / "data", has_gpu=False)
    assert {*result.splits} == {"train", "val"}
    assert [part.source.name for part in sources] == ["train.json"]


def test_no_data_set_is_an_error(tmp_path: Path):
    """An empty folder is refused with the layouts that were looked for."""
    with pytest.raises(DataError, match="no annotations found"):
        audit(tmp_path)


def test_an_annotation_file_is_a_data_set_of_one_split(clean: Path):
    result = audit(clean / "annotations" / "train.json", has_gpu=False)
    assert [each.name for each in result.statistics] == ["train"]
    assert result.plan is not None


def test_the_time_of_a_step_is_measured_on_request(clean: Path):
    """The timer gets the plan's recipe and only images that can be used."""
    calls = []

    def timer(recipe: Recipe, training: DetectionDataset) -> float:
        calls.append((recipe, len(training)))
        return 2.0

    result = audit(clean, has_gpu=False, timer=timer)
    assert result.plan is not None
    assert calls == [(result.plan.recipe, 12)]
    assert result.plan.seconds_per_step == 2.0
