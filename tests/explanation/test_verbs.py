"""The verbs explain and queries, as a user types them."""

import json
from pathlib import Path

import pytest
from PIL import Image

import setmatch as sm
from known_models import gray_image, sampling
from setmatch.cli import main
from setmatch.models.registry import build
from setmatch.structures.metadata import Categories, ModelCard


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, an image, and a data set of it."""
    folder = tmp_path_factory.mktemp("saved")
    sm.save(sampling(), folder / "model")
    gray_image().save(folder / "street.png")
    image = {"id": 1, "file_name": "street.png", "width": 160, "height": 96}
    coco = {"images": [image], "annotations": [], "categories": [{"id": 1, "name": "cat"}]}
    (folder / "all.json").write_text(json.dumps(coco))
    return folder


def test_explain_writes_what_is_asked_for(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """A page and three figures, each named on a line of its own."""
    page, figures = tmp_path / "why.html", tmp_path / "figures"
    infer = ("explain", saved / "street.png", "--model", saved / "model", "--out", page)
    assert main([*map(str, infer), "--png", str(figures), "--point", "20,30"]) == 0
    names = ("decoder.png", "layers.png", "encoder.png")
    written = [*(figures / name for name in names), page]
    assert capsys.readouterr().out.splitlines() == [str(path) for path in written]
    assert "setmatch_n" in page.read_text("utf-8")
    for name in names:
        with Image.open(figures / name) as figure:
            figure.load()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "nothing to write"),
        (("--out", "why.html", "--point", "1,2"), "give --png"),
        (("--png", "figures", "--point", "1;2"), "not a point"),
        (("--png", "figures", "--point", "1,2,3"), "not a point"),
    ],
)
def test_explain_says_what_it_needs(
    options: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
):
    """Options that do not fit are refused before the model is loaded."""
    assert main(["explain", "street.png", "--model", "none", *options]) == 2
    assert said in capsys.readouterr().err


def test_explain_names_a_picture_that_is_not_there(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """One line with the file's name, and no page."""
    page = tmp_path / "why.html"
    infer = ("explain", "none.png", "--model", saved / "model", "--out", page)
    assert main([*map(str, infer)]) == 2
    assert "none.png: no such image" in capsys.readouterr().err
    assert not page.exists()


@pytest.mark.parametrize(
    "command",
    [
        ("explain", "{}/street.png", "--model", "none", "--out", "{}/street.png/why.html"),
        ("explain", "{}/street.png", "--model", "none", "--png", "{}/street.png"),
        ("queries", "none", "{}/all.json", "--out", "{}/street.png"),
        ("compare", "none", "--html", "{}/street.png/c.html"),
        ("compare", "none", "--json", "{}"),
        ("curves", "none", "--out", "{}/street.png/c.png"),
    ],
)
def test_what_cannot_be_written_is_said_before_the_work(
    saved: Path, command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
):
    """One line that names the path; the model, which is not there either, is not looked for."""
    assert main([part.replace("{}", str(saved)) for part in command]) == 2
    said = capsys.readouterr()
    assert "folder; name" in said.err
    assert said.out == ""


def test_queries_of_a_baseline_are_refused(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """torchvision's detectors have none; that is said, and nothing is written."""
    card = ModelCard("ssdlite_mobilenet_v3", {}, Categories((1,), ("cat",)))
    sm.save(build(card), tmp_path / "model")
    out = tmp_path / "slots"
    infer = ("queries", tmp_path / "model", saved / "all.json", "--out", out)
    assert main([*map(str, infer)]) == 2
    assert "no queries to show" in capsys.readouterr().err
    assert not out.exists()


def test_queries_writes_a_picture_and_numbers(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Both files, and a line that says how many queries there are and how many are unused."""
    out = tmp_path / "slots"
    infer = ("queries", saved / "model", saved / "all.json", "--out", out, "--query", 5)
    assert main([*map(str, infer), "--workers", "0"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("6 queries, 1 images: 0 never detect anything above a score of 0.5")
    assert said[1:] == [str(out / "queries.png"), str(out / "queries.json")]
    assert json.loads((out / "queries.json").read_text("utf-8"))["data"] == "all.json"


def test_the_name_is_the_function(saved: Path):
    """`sm.explain` explains, also after its module has been imported."""
    explanation = sm.explain(sm.load(saved / "model"), saved / "street.png", threshold=0.3)
    assert (explanation.name, explanation.threshold) == ("street.png", 0.3)
    assert len(explanation.detections) == len(explanation.queries)
