"""A survey as a user meets it: terminal, JSON, page, recipe and exit code."""

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

from setmatch.cli import main
from setmatch.config import load_recipe
from setmatch.data.audit.audit import DataAudit, UnfixableDataError, audit
from setmatch.data.audit.console import shown
from setmatch.data.audit.html import write_page
from setmatch.data.convert import convert_dataset
from setmatch.data.synthetic.scenes import write_scenes
from setmatch.errors import DataError


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated scenes, nothing wrong with them."""
    folder = tmp_path_factory.mktemp("sound")
    write_scenes(folder, 12, 4, 96, 0, workers=1)
    return folder


@pytest.fixture(scope="module")
def dirty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes with a box without area, markup in names, a truncated and a leaked picture."""
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
    with Image.open(files[2]) as picture:
        picture.load()
    picture.save(leak)
    return folder


def printed(found: DataAudit) -> str:
    console = Console(width=80, file=io.StringIO())
    console.print(shown(found))
    return console.file.getvalue()


def test_a_sound_data_set_passes(sound: Path):
    """Nothing must be mended, and every picture was opened."""
    found = audit(sound, has_gpu=False)
    assert not found.needs_mending
    found.require_sound()
    assert {split: len(each) for split, each in found.opened.items()} == {"train": 12, "val": 4}
    assert [facts.name for facts in found.facts] == ["train", "val", "all"]


def test_what_is_wrong_is_found(dirty: Path):
    """Annotations, files and splits: each flaw is named with its file, gravest first."""
    found = audit(dirty, has_gpu=False)
    assert found.needs_mending
    severities = {finding.what: finding.severity for finding in found.findings}
    assert severities["image that cannot be used"] == "mend"
    assert severities["box without area"] == "repaired"
    assert severities["looks like a picture of another split"] == "note"
    with pytest.raises(UnfixableDataError, match="1 thing must be mended by hand"):
        found.require_sound()


def test_the_terminal_shows_it_in_80_columns(dirty: Path):
    """Facts, findings and plan fit the usual width; names with markup are shown as they are."""
    text = printed(audit(dirty, has_gpu=False))
    assert max(map(len, text.splitlines())) <= 80
    for words in (
        "Must be mended by hand",
        "Worth knowing",
        "TrainingPlan",
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


def test_the_page_needs_nothing_beside_it(dirty: Path, tmp_path: Path):
    """All pictures are inside, nothing is fetched or run, and names cannot smuggle in markup."""
    write_page(audit(dirty, has_gpu=False), tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    links = Links()
    links.feed(text)
    assert links.fetched
    assert all(link.startswith("data:image/jpeg;base64,") for link in links.fetched)
    assert "script" not in links.opened
    assert "&lt;script&gt;" in text
    assert not re.search(r"url\(|@import|\bon\w+=", text)
    assert links.opened.count("img") == 11 + 4 + 2  # one cannot be read, two are alike
    assert links.opened.count("figure") == links.opened.count("img") + 4


def test_no_table_is_cut_on_a_phone(tmp_path: Path, open_page):
    """Three splits and their sum fit; classes without a box take a line and not a screen."""
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


def test_the_command_writes_everything_and_ends_with_1(dirty: Path, tmp_path: Path, capsys):
    """JSON, page, recipe and mended copy are written before the exit code tells of the flaw."""
    names = {"json": "s.json", "html": "s.html", "recipe": "plan.yaml", "fix": "mended"}
    options = [part for key, name in names.items() for part in (f"--{key}", str(tmp_path / name))]
    assert main(["audit", str(dirty), *options]) == 1
    said = capsys.readouterr()
    assert "changes: 1, listed in" in said.out
    assert said.err.count("\n") == 1
    tree = json.loads((tmp_path / "s.json").read_text())
    assert said.out.count(f"--recipe {tmp_path / 'plan.yaml'} --weights scenes_n") == 1
    assert tree["needs_mending"] is True
    assert tree["facts"]["all"]["images"] == 16
    assert {"severity", "what", "file", "annotation", "value", "done"} <= {*tree["findings"][0]}
    recipe = load_recipe(tmp_path / "plan.yaml")
    assert recipe.model_dump(by_alias=True) == tree["plan"]["recipe"]
    assert (tmp_path / "mended" / "annotations" / "train.json").exists()
    assert (tmp_path / "s.html").exists()


def test_the_commands_of_a_plan_can_be_followed_as_printed(tmp_path: Path, monkeypatch):
    """One writes the recipe, the next trains by it, for a folder with a space in its name too."""
    monkeypatch.chdir(tmp_path)
    write_scenes(tmp_path / "my data", 16, 4, 64, 2, 0)
    found = audit("my data", has_gpu=False, format="coco")
    first, second = map(shlex.split, found.commands)
    assert main(first[1:]) == 0
    assert main([*second[1:], "--epochs", "1", "--set", "train.evaluate_every=1"]) == 0
    assert (tmp_path / "runs/first/best").is_dir()


def test_the_command_ends_with_0_when_nothing_must_be_mended(sound: Path, capsys):
    """What is only worth knowing is no failure."""
    assert main(["audit", str(sound)]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("option", ["--json", "--html", "--recipe", "--fix"])
def test_where_it_cannot_write_is_said_before_the_work(
    sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str
):
    """No picture is opened for a page that nobody will get."""
    (tmp_path / "file").write_text("")
    assert main(["audit", str(sound), option, str(tmp_path / "file" / "out")]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "file is no folder; name another" in said.err


def test_a_split_that_cannot_be_read_is_a_finding(sound: Path, tmp_path: Path):
    """The other splits are surveyed all the same."""
    for path in sound.rglob("*"):
        if path.is_file():
            copy = tmp_path / path.relative_to(sound)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    broken = tmp_path / "annotations" / "val.json"
    broken.write_text(broken.read_text()[:-100])
    found = audit(tmp_path, has_gpu=False)
    (unreadable,) = (each for each in found.findings if each.severity == "mend")
    assert "val.json" in unreadable.value
    assert [facts.name for facts in found.facts] == ["train"]


def test_no_data_set_is_an_error(tmp_path: Path):
    """An empty folder is refused with what was looked for."""
    with pytest.raises(DataError, match="no annotations found"):
        audit(tmp_path)


def test_a_single_file_is_surveyed(sound: Path):
    """An annotation file is a data set of one split."""
    found = audit(sound / "annotations" / "train.json", has_gpu=False)
    assert [facts.name for facts in found.facts] == ["train"]
    assert found.plan is not None


def test_the_time_of_the_plan_is_measured_on_request(sound: Path):
    """The timer gets the planned recipe and only pictures that can be used."""
    seen = []
    found = audit(
        sound, has_gpu=False, timer=lambda recipe, index: seen.append((recipe, len(index))) or 2.0
    )
    assert found.plan is not None
    assert seen == [(found.plan.recipe, 12)]
    assert found.plan.seconds_per_step == 2.0
