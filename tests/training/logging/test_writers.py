"""The log survives kills and resumes, and the CSV table has the same rows."""

import csv
import json

import pytest

from setmatch.config import TrainSettings
from setmatch.training.logging.console import Display
from setmatch.training.logging.writers import CommaSeparated, JsonLines, read_rows
from setmatch.training.schedule.schedule import make_schedule

TRAIN = {"kind": "train", "step": 2, "loss": 1.5}
LATER = {"kind": "train", "step": 4, "loss": float("nan")}
VAL = {"kind": "val", "step": 4, "AP": 0.5}


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_json_lines_are_valid_json_whatever_the_numbers(tmp_path):
    """NaN is no JSON; it is written as null."""
    log = JsonLines(tmp_path / "log.jsonl")
    for row in (TRAIN, LATER, VAL):
        log.write(row)
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert rows == [TRAIN, {**LATER, "loss": None}, VAL]


def test_a_resumed_log_drops_later_rows_and_incomplete_lines(tmp_path):
    """Rows after the resumed step and half a line are gone; earlier rows stay once."""
    path = tmp_path / "log.jsonl"
    log = JsonLines(path)
    for row in (TRAIN, LATER, VAL):
        log.write(row)
    with path.open("a") as file:
        file.write('{"kind": "train", "ste')
    rows = read_rows(path, last_step=3)
    assert rows == [TRAIN]
    log.rewrite(rows)
    log.write(VAL)
    assert read_rows(path, last_step=9) == [TRAIN, VAL]


def test_the_table_grows_a_column_without_losing_rows(tmp_path):
    """The first evaluation brings new columns; earlier rows leave them empty."""
    log = CommaSeparated(tmp_path / "log.csv")
    log.rewrite([TRAIN])
    log.write(VAL)
    log.write({"kind": "train", "step": 6, "loss": 0.5})
    rows = table(tmp_path / "log.csv")
    assert [row["step"] for row in rows] == ["2", "4", "6"]
    assert [row["AP"] for row in rows] == ["", "0.5", ""]
    assert [row["loss"] for row in rows] == ["1.5", "", "0.5"]


def test_without_a_terminal_progress_is_plain_lines_with_the_time_left(capsys):
    """A line has step, losses, pace and time left, and the last AP once there is one."""
    row = {"kind": "train", "step": 2, "epoch": 1, "loss": 1.5, "images_per_s": 20.0}
    with Display(make_schedule(4, TrainSettings(epochs=4, batch_size=4))) as display:
        display.advance(2, 0.0)
        display.show(row)
        display.show({"kind": "val", "step": 2, "epoch": 1, "AP": 0.25, "AP50": 0.5})
        display.advance(4, 0.0)
        display.show({**row, "step": 4})
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("step 2/4 epoch 1 loss 1.5 20 images/s")
    assert lines[1] == "after step 2 (1 epoch): AP 25.0, AP50 50.0"
    assert "AP 25.0" in lines[2]
    assert "min left" in lines[2]


def test_a_quiet_display_says_nothing(capsys):
    """Only the first of several processes speaks."""
    with Display(make_schedule(4, TrainSettings()), quiet=True) as display:
        display.say("hello")
        display.show({"kind": "val", "step": 2, "epoch": 1, "AP": None, "AP50": 0.5})
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("text", ["", "not json\n", "[1]\n", '{"step": "x"}\n'])
def test_an_invalid_log_has_no_rows(tmp_path, text):
    (tmp_path / "log.jsonl").write_text(text)
    assert read_rows(tmp_path / "log.jsonl", 5) == []
