"""benchmarks/reproduce.py: its commands, its downloads and its arithmetic, on small stand-ins."""

import importlib
import io
import json
import re
import zipfile
from pathlib import Path

import pytest

from setmatch.cli import app
from setmatch.data.synthetic.scenes import write_scenes
from setmatch.models.registry import PUBLISHED
from setmatch.recipe_text import recipe_names

ROOT = Path(__file__).parents[2]


@pytest.fixture
def reproduce(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("reproduce")


def test_every_name_in_it_exists(reproduce):
    assert set(reproduce.PUBLISHED_AP) <= set(PUBLISHED)
    assert set(reproduce.RF100VL_MODELS) <= set(recipe_names())


def test_published_figures_are_those_of_the_readme(reproduce):
    """For every published model whose box AP the README has."""
    shown = {}
    for line in (ROOT / "README.md").read_text("utf-8").splitlines():
        cells = line.split("|")
        if len(cells) == 5 and re.fullmatch(r"[\d., ]+", cells[3]):
            names = re.findall(r"`(\w+)`", cells[1])
            shown |= zip(names, map(float, cells[3].split(",")), strict=True)
    assert {name: ap for name, ap in shown.items() if name in PUBLISHED} == reproduce.PUBLISHED_AP


def test_a_model_is_evaluated_once_and_compared(reproduce, tmp_path, monkeypatch, capsys):
    """A bundled model on generated scenes stands for published weights on COCO."""
    write_scenes(tmp_path / "coco", 1, 3, 64, 0, 0)
    command = ["coco", str(tmp_path / "coco"), "--out", str(tmp_path), "--device", "cpu"]
    reproduce.main([*command, "--models", "scenes_n"])
    metrics = json.loads((tmp_path / "coco_scenes_n.json").read_text())
    measured = f"| scenes_n | {100 * metrics['AP']:.1f} |"
    assert f"{measured} - |  |" in capsys.readouterr().out
    monkeypatch.setattr(reproduce, "setmatch", lambda _: pytest.fail("is measured already"))
    monkeypatch.setitem(reproduce.PUBLISHED_AP, "scenes_n", 100 * metrics["AP"] + 0.1)
    reproduce.main([*command, "--models", "scenes_n"])
    assert "| reproduced |" in capsys.readouterr().out
    monkeypatch.setitem(reproduce.PUBLISHED_AP, "scenes_n", 100 * metrics["AP"] + 2)
    reproduce.main([*command, "--models", "scenes_n"])
    assert "| -2.0 |" in capsys.readouterr().out


def test_each_data_set_is_tuned_and_tested_and_the_mean_is_of_data_sets(
    reproduce, tmp_path, monkeypatch, capsys
):
    """Commands that are accepted; one data set that fails does not take the others along."""
    for name in ("a", "b", "broken"):
        (tmp_path / "rf100vl" / name).mkdir(parents=True)
    ran = []

    def setmatch(command):
        ran.append(command)
        app.parse_args(list(command), exit_on_error=False, print_error=False)
        if "broken" in command[1]:
            return 2
        if command[0] == "evaluate":
            result = Path(command[command.index("--json") + 1])
            result.parent.mkdir(parents=True, exist_ok=True)
            result.write_text(json.dumps({"AP": 0.5 if result.stem == "a" else 0.3}))
        return 0

    monkeypatch.setattr(reproduce, "setmatch", setmatch)
    reproduce.main(["rf100vl", str(tmp_path / "rf100vl"), "--out", str(tmp_path / "out")])
    assert "| dfine_s | 40.0 | 2 of 3 |" in capsys.readouterr().out
    trained = [command for command in ran if command[0] == "train"]
    assert len(trained) == 3 * len(reproduce.RF100VL_MODELS)
    assert len(ran) == len(trained) + 2 * len(reproduce.RF100VL_MODELS)
    assert all(
        "--split" in command and "test" in command for command in ran if command not in trained
    )


def test_dry_runs_only_print(reproduce, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(reproduce, "setmatch", lambda _: pytest.fail("runs"))
    reproduce.main(["coco", "coco", "--out", str(tmp_path), "--models", "dfine_s", "--dry-run"])
    said = capsys.readouterr().out
    assert "setmatch evaluate dfine_s coco --split val --json" in said
    assert "| dfine_s | - | 48.5 | not measured |" in said


def test_the_data_is_downloaded_and_unpacked_once(reproduce, tmp_path, monkeypatch):
    served = []
    for name in ("val2017", "annotations"):
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            archive.writestr(f"{name}/file.txt", name)
        (tmp_path / f"{name}.zip").write_bytes(content.getvalue())
        served.append((name, (tmp_path / f"{name}.zip").as_uri()))
    monkeypatch.setattr(reproduce, "COCO_FILES", dict(served))
    reproduce.download_coco(tmp_path / "coco")
    assert (tmp_path / "coco" / "annotations" / "file.txt").read_text() == "annotations"
    monkeypatch.setattr(reproduce, "download", lambda *_: pytest.fail("is there already"))
    reproduce.download_coco(tmp_path / "coco")
