"""The commands explain and queries, as a user types them."""

import json
from pathlib import Path

import pytest
from PIL import Image

import setmatch as sm
from known_models import gray_image, known_setmatch
from setmatch.cli import main
from setmatch.models.registry import build
from setmatch.structures.metadata import Categories, ModelCard


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, an image, and a data set of it."""
    folder = tmp_path_factory.mktemp("saved")
    sm.save(known_setmatch(), folder / "model")
    gray_image().save(folder / "street.png")
    image = {"id": 1, "file_name": "street.png", "width": 160, "height": 96}
    coco = {"images": [image], "annotations": [], "categories": [{"id": 1, "name": "cat"}]}
    (folder / "all.json").write_text(json.dumps(coco))
    return folder


def test_explain_writes_the_page_and_the_figures(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """A page and three figures, each named on a line of its own."""
    page, figures = tmp_path / "why.html", tmp_path / "figures"
    arguments = ("explain", saved / "street.png", "--model", saved / "model", "--out", page)
    assert main([*map(str, arguments), "--png", str(figures), "--point", "20,30"]) == 0
    names = ("decoder.png", "layers.png", "encoder.png")
    written = [*(figures / name for name in names), page]
    assert capsys.readouterr().out.splitlines() == [str(path) for path in written]
    assert "setmatch_n" in page.read_text("utf-8")
    for name in names:
        with Image.open(figures / name) as figure:
            figure.load()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "nothing to write"),
        (("--out", "why.html", "--point", "1,2"), "give --png"),
        (("--png", "figures", "--point", "1;2"), "not a point"),
        (("--png", "figures", "--point", "1,2,3"), "not a point"),
    ],
)
def test_explain_refuses_incomplete_options(
    options: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
):
    """The error comes before the model is loaded."""
    assert main(["explain", "street.png", "--model", "none", *options]) == 2
    assert message in capsys.readouterr().err


def test_explain_names_a_missing_image(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """The error has the file name, and no page is written."""
    page = tmp_path / "why.html"
    arguments = ("explain", "none.png", "--model", saved / "model", "--out", page)
    assert main([*map(str, arguments)]) == 2
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
def test_an_output_path_that_cannot_be_written_is_refused_first(
    saved: Path, command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
):
    """The error names the path; it comes before the missing model is looked up."""
    assert main([part.replace("{}", str(saved)) for part in command]) == 2
    output = capsys.readouterr()
    assert "folder; name" in output.err
    assert output.out == ""


def test_queries_refuses_a_model_without_queries(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """torchvision's detectors have none. No data are opened, and nothing is written."""
    card = ModelCard("ssdlite_mobilenet_v3", {}, Categories((1,), ("cat",)))
    sm.save(build(card), tmp_path / "model")
    out = tmp_path / "queries"
    arguments = ("queries", tmp_path / "model", tmp_path / "no data", "--out", out)
    assert main([*map(str, arguments)]) == 2
    assert "no queries to show" in capsys.readouterr().err
    assert not out.exists()


def test_queries_writes_a_page_a_figure_and_a_json_file(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """All files, and a line that says how many queries there are and how many are unused."""
    out = tmp_path / "queries"
    arguments = ("queries", saved / "model", saved / "all.json", "--out", out, "--query", 5)
    assert main([*map(str, arguments), "--workers", "0"]) == 0
    output = capsys.readouterr().out.splitlines()
    assert output[0].startswith("6 queries, 1 images: 0 never detect anything above a score of 0.5")
    assert output[1:] == [str(out / f"queries.{suffix}") for suffix in ("html", "png", "json")]
    assert json.loads((out / "queries.json").read_text("utf-8"))["data"] == "all.json"


def test_sm_explain_is_the_function(saved: Path):
    """Also after the module of the same name has been imported."""
    explanation = sm.explain(sm.load(saved / "model"), saved / "street.png", threshold=0.3)
    assert (explanation.name, explanation.threshold) == ("street.png", 0.3)
    assert len(explanation.detections) == len(explanation.queries)


def test_explain_shows_what_predict_detects_by_default():
    """Both take the model's own threshold."""
    model = known_setmatch()
    assert sm.explain(model, gray_image()).threshold == model.default_threshold
    with pytest.raises(sm.SetmatchError, match="threshold = 50; give a score"):
        sm.explain(model, gray_image(), threshold=50)


def test_the_best_threshold_of_each_class_shows_what_predict_detects(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """In Python and on the command line; of a model that stores none, the error says so."""
    plain = known_setmatch()
    everything = sm.predict(plain, saved / "street.png", threshold=0)
    classes = everything.classes.tolist()
    name, other = ("cat", "dog") if classes[0] == 0 else ("dog", "cat")
    below = 0.999 * float(everything.scores[0])
    sm.save(plain, tmp_path / "model", thresholds={name: below, other: 1.0})
    model = sm.load(tmp_path / "model")
    found = sm.predict(model, saved / "street.png", threshold="best")
    assert 0 < len(found) < len(everything)
    explanation = sm.explain(model, saved / "street.png", threshold="best")
    shown = explanation.shown(explanation.detections)
    assert shown.scores.tolist() == pytest.approx(found.scores.tolist())
    assert shown.classes.tolist() == found.classes.tolist()
    arguments = [tmp_path / "model", saved / "all.json", "--out", tmp_path / "queries"]
    options = ("--threshold", "best", "--workers", "0")
    assert main(["queries", *map(str, arguments), *options]) == 0
    assert "above the best threshold of its class, " in capsys.readouterr().out
    written = json.loads((tmp_path / "queries/queries.json").read_text("utf-8"))
    assert written["threshold"] == {name: pytest.approx(below), other: 1.0}
    assert sum(use["detections"] for use in written["queries"]) == len(found)
    assert "a detection scores above the best" in (tmp_path / "queries/queries.html").read_text()
    for name, place, out in (("queries", "all.json", "use"), ("explain", "street.png", "why.html")):
        words = [name, str(saved / "model"), str(saved / place), "--out", str(tmp_path / out)]
        assert main([*words, "--threshold", "best"]) == 2
        assert "stores no best thresholds" in capsys.readouterr().err
