"""Curves show what the log says, for complete, broken and new runs, and for folders without one."""

import json
import math
import re

import pytest
from PIL import Image
from tiny_runs import log_rows, run_tiny, write_data

from setmatch.cli import main
from setmatch.config import TrainSettings
from setmatch.errors import ConfigError
from setmatch.training.logging.curves.history import History, read_histories, read_history
from setmatch.training.logging.curves.panels import Line, Panel, panels, thin_out
from setmatch.training.logging.curves.svg import chart
from setmatch.training.logging.live.live_page import LivePage
from setmatch.training.schedule.schedule import make_schedule

PLAN = make_schedule(100, TrainSettings(epochs=10, batch_size=10))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two short runs with evaluations, in folders of the same name."""
    folder = tmp_path_factory.mktemp("runs")
    data = write_data(folder / "data", splits=("train", "val"))
    return [run_tiny(data, folder / name / "run", "train.epochs=2").folder for name in "ab"]


def train_row(step, **columns):
    return {"kind": "train", "step": step, "loss": 10.0 / step, "images_per_s": 20.0, **columns}


def test_the_page_shows_what_the_log_says(runs, tmp_path, capsys):
    """Every run has its name, its summary, its warnings, and a line in every panel."""
    assert main(["curves", *map(str, runs), "--out", str(tmp_path / "c.html")]) == 0
    page, output = (tmp_path / "c.html").read_text(), capsys.readouterr().out
    last = [row for row in log_rows(runs[0]) if row["kind"] == "train"][-1]
    assert f"a/run: {last['step']} steps" in output
    assert "warning at step 0: too few steps" in output
    for text in ("a/run", "b/run", "too few steps", "validation AP", "learning rate"):
        assert text in page
    # Two axes, two runs; AP, AP50 and five columns of training.
    assert page.count('class="curve') == 2 * 2 * 7
    assert "http" not in page


def test_masks_have_curves_of_their_own(tmp_path):
    """PQ, mask AP and the mask losses, in the summary, in the panels and on the live page."""
    found = {"PQ": 0.5, "mask_AP": 0.25, "AP": 0.375, "AP50": 0.75}
    rows = [
        train_row(10, mask=0.5, dice=0.7),
        {"kind": "val", "step": 10, **found},
        {"kind": "val", "step": 20, **found, "PQ": 0.625},
    ]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    history = read_history(tmp_path)
    assert "PQ 62.5, best 62.5 after step 20; mask AP 25.0" in history.summary()
    titles = [panel.title for panel in panels([history])]
    assert titles[:2] == [
        "validation PQ (panoptic quality), in percent",
        "validation mask AP, in percent",
    ]
    assert {"mask focal loss", "mask DICE loss"} <= {*titles}
    LivePage(tmp_path, PLAN, rows).end("done")
    live = (tmp_path / "live.html").read_text()
    assert "<b>62.5</b>latest PQ" in live
    assert "<b>25.0</b>best mask AP" in live


def test_an_unknown_loss_term_has_a_panel(tmp_path):
    """Columns of other layers, rates and counts have none."""
    row = train_row(1, fgl=0.5, muon_lr=0.1, class_error=50.0, grad_norm=1.0, nonfinite=0)
    row["encoder/fgl"] = 0.25
    drawn = panels([History("run", (row,))])
    assert [panel.title for panel in drawn] == [
        "total loss, summed over decoder layers",
        "fgl loss, last layer",
    ]


def test_curves_are_written_as_a_png(runs, tmp_path):
    assert main(["curves", str(runs[0]), "--out", str(tmp_path / "c.png")]) == 0
    with Image.open(tmp_path / "c.png") as image:
        assert image.format == "PNG"
        assert image.width > 1200


def test_the_live_page_of_a_finished_run_stops_refreshing(runs):
    """Every run leaves a page that shows how it ended."""
    page = (runs[0] / "live.html").read_text()
    assert "<b>done</b>" in page
    assert "http-equiv" not in page
    assert "too few steps" in page


def test_the_live_page_shows_progress_and_refreshes_itself(tmp_path, monkeypatch):
    """Steps, time left and the latest AP; it is written at once, then every few seconds."""
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
    assert "<b>25.0</b>latest AP" in later
    assert re.search(r"<b>\d+ s</b>left", later)


def test_the_live_page_of_a_long_run_stays_small(tmp_path):
    """Every second, fourth, ... of many rows is kept."""
    rows = [train_row(step) for step in range(1, 20_000)]
    page = LivePage(tmp_path, PLAN, rows)
    page.end("done")
    assert (tmp_path / "live.html").stat().st_size < 100_000
    assert len(page._rows) <= 1001


def test_broken_lines_of_a_log_are_skipped_and_reported(runs, tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    lines = (runs[0] / "log.jsonl").read_text().splitlines()
    (run / "log.jsonl").write_text("\n".join([*lines[:2], '{"kind": "tr', "[1]", *lines[2:]]))
    history = read_history(run)
    assert history.broken == (3, 4)
    assert list(history.rows) == [json.loads(line) for line in lines]
    assert main(["curves", str(run), "--out", str(tmp_path / "c.html")]) == 0
    assert "2 unreadable lines of log.jsonl ignored: 3, 4" in capsys.readouterr().out


def test_a_folder_without_curves_is_a_clear_error(tmp_path, capsys):
    """No folder, a folder that is no run, a new run, an unreadable log, no run at all."""
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
    assert "an HTML page (.html) or an image (.png)" in capsys.readouterr().err


def test_a_run_without_evaluation_has_no_ap_panel(tmp_path):
    (tmp_path / "log.jsonl").write_text(json.dumps(train_row(1)) + "\n")
    history = read_history(tmp_path)
    assert "not evaluated yet" in history.summary()
    assert [panel.title for panel in panels([history])] == [
        "total loss, summed over decoder layers"
    ]
    assert main(["curves", str(tmp_path), "--out", str(tmp_path / "c.html")]) == 0
    assert "AP50" not in (tmp_path / "c.html").read_text()


@pytest.mark.parametrize("value", [0.0, 3.0, -2.0, 1e-8, 123456.0])
def test_a_constant_curve_is_drawn(value):
    """A single point, and equal values, have axes too."""
    for points in ([(1.0, value)], [(1.0, value), (2.0, value)]):
        drawn = chart(Panel("lr", (Line("run", "#123456", points),), from_zero=value >= 0))
        assert len(drawn.dots) == len(points)
        assert all(math.isfinite(dot.x) and math.isfinite(dot.y) for dot in drawn.dots)
        assert "nan" not in drawn.lines[0].path + drawn.grid


def test_many_points_are_averaged_into_few():
    """The mean of the averages is the mean of the points."""
    points = [(float(step), float(step % 7)) for step in range(10_000)]
    fewer = thin_out(points)
    assert len(fewer) <= 400
    assert sum(v for _, v in fewer) / len(fewer) == pytest.approx(3, abs=0.05)


def test_the_pages_work_in_a_browser(runs, tmp_path, open_page):
    """No error, no request, nothing wider than a phone; a stale page says that it is stale."""
    assert main(["curves", *map(str, runs), "--out", str(tmp_path / "c.html")]) == 0
    for path in (tmp_path / "c.html", runs[0] / "live.html"):
        page = open_page(path, width=390, height=800)
        assert page.locator("[data-axis=step] figure.chart svg").count() == 6
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page = LivePage(tmp_path, PLAN)
    page.write(train_row(10), 0.0)
    text = (tmp_path / "live.html").read_text()
    (tmp_path / "live.html").write_text(re.sub(r"1000 - \d+", "1000 - 1e9", text))
    assert "No update for" in open_page(tmp_path / "live.html").locator("#stale").inner_text()
