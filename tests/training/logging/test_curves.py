"""Curves show what the log says, of runs that are whole, broken, just begun, or no runs at all."""

import json
import re

import pytest
from PIL import Image
from tiny_runs import log_rows, run_tiny, write_data

from setmatch.cli import main
from setmatch.config import TrainSettings
from setmatch.errors import ConfigError
from setmatch.training.logging.curves.history import read_histories, read_history
from setmatch.training.logging.curves.live_page import LivePage
from setmatch.training.logging.curves.panels import Line, Panel, panels, thinned
from setmatch.training.logging.curves.svg import chart, short
from setmatch.training.schedule import make_schedule

PLAN = make_schedule(100, TrainSettings(epochs=10, batch_size=10))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Give two short runs with evaluations, in folders of the same name."""
    folder = tmp_path_factory.mktemp("runs")
    data = write_data(folder / "data", splits=("train", "val"))
    return [run_tiny(data, folder / name / "run", "train.epochs=2").folder for name in "ab"]


def train_row(step, **columns):
    return {"kind": "train", "step": step, "loss": 10.0 / step, "images_per_s": 20.0, **columns}


def test_the_page_shows_what_the_log_says(runs, tmp_path, capsys):
    """Every run has its name, its course in words, what the watch said, and lines of all panels."""
    assert main(["curves", *map(str, runs), "--out", str(tmp_path / "c.html")]) == 0
    page, said = (tmp_path / "c.html").read_text(), capsys.readouterr().out
    last = [row for row in log_rows(runs[0]) if row["kind"] == "train"][-1]
    assert f"a/run: {last['step']} steps" in said
    assert "watch, step 0: too few steps" in said
    for text in ("a/run", "b/run", "too few steps", "AP on the validation images", "learning rate"):
        assert text in page
    assert page.count('class="curve') == 2 * 7  # two runs; AP, AP50 and five columns of training
    assert "http" not in page


def test_masks_have_curves_of_their_own(tmp_path):
    """Quality and losses of masks beside those of boxes, on the page, in words and live."""
    found = {"PQ": 0.5, "mask_AP": 0.25, "AP": 0.375, "AP50": 0.75}
    rows = [
        train_row(10, mask=0.5, dice=0.7),
        {"kind": "val", "step": 10, **found},
        {"kind": "val", "step": 20, **found, "PQ": 0.625},
    ]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    history = read_history(tmp_path)
    assert "PQ 0.625, best 0.625 after step 20; mask AP 0.250" in history.summary()
    titles = [panel.title for panel in panels([history])]
    assert titles[:2] == [
        "panoptic quality on the validation images",
        "mask AP on the validation images",
    ]
    assert {"focal loss of the masks", "DICE loss of the masks"} <= {*titles}
    LivePage(tmp_path, PLAN, rows).end("done")
    live = (tmp_path / "live.html").read_text()
    assert "<b>0.625</b>PQ, the last" in live
    assert "<b>0.250</b>mask AP, the best" in live


def test_the_picture_is_a_png(runs, tmp_path):
    """--out curves.png writes a picture, large enough to read."""
    assert main(["curves", str(runs[0]), "--out", str(tmp_path / "c.png")]) == 0
    with Image.open(tmp_path / "c.png") as picture:
        assert picture.format == "PNG"
        assert picture.width > 1200


def test_a_run_can_be_watched_while_it_goes_on(runs):
    """Every run leaves a page; when it has ended, the page says so and reads itself no more."""
    page = (runs[0] / "live.html").read_text()
    assert "<b>done</b>" in page
    assert "http-equiv" not in page
    assert "too few steps" in page


def test_the_live_page_tells_how_far_it_is_and_refreshes_itself(tmp_path, monkeypatch):
    """Steps, time left, pace and the last AP stand on it; it is written at once, then rarely."""
    seconds = iter([100.0, 100.0, 100.0, 104.0, 104.0, 110.0, 110.0, 110.0, 120.0, 120.0])
    monkeypatch.setattr("time.monotonic", lambda: next(seconds))
    page = LivePage(tmp_path, PLAN)
    page.write(train_row(10), 0.0)
    first = (tmp_path / "live.html").read_text()
    assert "<b>10 of 100</b>" in first
    assert 'http-equiv="refresh"' in first
    page.write(train_row(20), 4.0)  # too soon
    assert (tmp_path / "live.html").read_text() == first
    page.write({"kind": "val", "step": 50, "AP": 0.25, "AP50": 0.5}, 10.0)
    later = (tmp_path / "live.html").read_text()
    assert "<b>50 of 100</b>" in later
    assert "<b>0.250</b>AP, the last" in later
    assert re.search(r"<b>\d+ s</b>left", later)


def test_a_long_run_costs_the_live_page_no_more_than_a_short_one(tmp_path):
    """Of many rows every so-manieth is kept, so that memory and page stay small."""
    rows = [train_row(step) for step in range(1, 20_000)]
    page = LivePage(tmp_path, PLAN, rows)
    page.end("done")
    assert (tmp_path / "live.html").stat().st_size < 100_000
    assert len(page._rows) <= 1001


def test_a_broken_line_is_left_out_and_named(runs, tmp_path, capsys):
    """Torn, foreign and half-written lines change nothing but a sentence."""
    run = tmp_path / "run"
    run.mkdir()
    lines = (runs[0] / "log.jsonl").read_text().splitlines()
    (run / "log.jsonl").write_text("\n".join([*lines[:2], '{"kind": "tr', "[1]", *lines[2:]]))
    history = read_history(run)
    assert history.broken == (3, 4)
    assert list(history.rows) == [json.loads(line) for line in lines]
    assert main(["curves", str(run), "--out", str(tmp_path / "c.html")]) == 0
    assert "2 unreadable line(s) of log.jsonl ignored: 3, 4" in capsys.readouterr().out


def test_what_has_no_curves_is_a_sentence(tmp_path, capsys):
    """No folder, a folder that is no run, a run that has not begun, a log of rubbish, no run."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "young").mkdir()
    (tmp_path / "young" / "recipe.yaml").write_text("")
    (tmp_path / "rubbish").mkdir()
    (tmp_path / "rubbish" / "log.jsonl").write_text("rubbish\n")
    expected = {
        "nowhere": "no such folder",
        "empty": "not a run; training writes recipe.yaml",
        "young": "no log line yet",
        "rubbish": "none of its 1 log lines can be read",
    }
    for name, sentence in expected.items():
        assert main(["curves", str(tmp_path / name), "--out", str(tmp_path / "c.html")]) == 2
        assert sentence in capsys.readouterr().err
    with pytest.raises(ConfigError, match="at least one run"):
        read_histories([])
    assert main(["curves", "x", "--out", "c.pdf"]) == 2
    assert "a page (.html) or a picture (.png)" in capsys.readouterr().err


def test_a_run_that_was_never_evaluated_has_losses_alone(tmp_path):
    """Without a validation split there is no AP, and no panel for it."""
    (tmp_path / "log.jsonl").write_text(json.dumps(train_row(1)) + "\n")
    history = read_history(tmp_path)
    assert "not evaluated yet" in history.summary()
    assert [panel.title for panel in panels([history])] == ["loss, all terms and decoder layers"]
    assert main(["curves", str(tmp_path), "--out", str(tmp_path / "c.html")]) == 0
    assert "AP50" not in (tmp_path / "c.html").read_text()


@pytest.mark.parametrize("value", [0.0, 3.0, -2.0, 1e-8, 123456.0])
def test_a_curve_that_does_not_move_is_drawn_too(value):
    """A single point, and values that are all the same, have axes nevertheless."""
    for points in ([(1.0, value)], [(1.0, value), (2.0, value)]):
        figure = chart(Panel("lr", (Line("run", "#123456", points),), from_zero=value >= 0))
        assert "nan" not in figure
        assert figure.count("<circle") == len(points)


def test_numbers_of_an_axis_are_short():
    """Large and small numbers have few letters."""
    written = [short(float(value)) for value in (0, 0.25, 150, 12_000, 2.5e6, 1e-4, 0.1 + 0.2)]
    assert written == ["0", "0.25", "150", "12k", "2.5M", "0.0001", "0.3"]


def test_many_points_are_averaged_into_few():
    """A curve keeps its course: the mean of the averages is the mean of the points."""
    points = [(float(step), float(step % 7)) for step in range(10_000)]
    fewer = thinned(points)
    assert len(fewer) <= 400
    assert sum(v for _, v in fewer) / len(fewer) == pytest.approx(3, abs=0.05)


def test_the_pages_work_in_a_browser(runs, tmp_path, open_page):
    """No error, no request, nothing wider than a phone; an old page says that it is old."""
    assert main(["curves", *map(str, runs), "--out", str(tmp_path / "c.html")]) == 0
    for path in (tmp_path / "c.html", runs[0] / "live.html"):
        page = open_page(path, width=390, height=800)
        assert page.locator("figure.chart svg").count() == 6
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page = LivePage(tmp_path, PLAN)
    page.write(train_row(10), 0.0)
    text = (tmp_path / "live.html").read_text()
    (tmp_path / "live.html").write_text(re.sub(r"1000 - \d+", "1000 - 1e9", text))
    assert "Nothing new for" in open_page(tmp_path / "live.html").locator("#old").inner_text()
