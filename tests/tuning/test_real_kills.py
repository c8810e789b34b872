"""SIGKILL at random moments of a search: it continues to what it finds undisturbed."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny_runs
import yaml
from tiny_runs import RECIPE

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(3600)]
KILLS = 25
MODULE = """
import tiny_runs
from setmatch.models.registry import MODELS

MODELS.update(tiny_runs.PRESETS)
"""
OPTIONS = "--trials 4 --epochs 4 --set train.checkpoint_every=1 --device cpu"
SEARCH = "train.lr=1e-5:1e-1:log"


class Search:
    """`setmatch tune` with a tiny detector, in a process of its own."""

    def __init__(self, data: Path, folder: Path, out: Path) -> None:
        (folder / "tiny_search.py").write_text(MODULE)
        recipe = folder / "recipe.yaml"
        recipe.write_text(yaml.safe_dump({**RECIPE, "model": {"preset": "tiny"}}))
        path = [str(folder), str(Path(tiny_runs.__file__).parent), *filter(None, sys.path)]
        self.out = out
        command = [sys.executable, "-m", "setmatch", "--import", "tiny_search", "tune", str(data)]
        options = ["--recipe", str(recipe), "--search", SEARCH, "--out", str(out)]
        self.process = subprocess.Popen(
            [*command, *options, *OPTIONS.split()],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.before = self.progress()

    def progress(self) -> set[str]:
        """What is there of checkpoints and finished trials."""
        found = {str(path) for path in self.out.glob("trials/*/checkpoints/[!.]*")}
        return found | {str(path) for path in self.out.glob("trials/*/best")}

    def wait_for_progress(self) -> None:
        """Wait for a checkpoint: a trial that dies without one, three times, has failed."""
        while self.process.poll() is None and self.progress() <= self.before:
            time.sleep(0.005)

    def finish(self) -> None:
        """Wait for the end."""
        said, _ = self.process.communicate(timeout=600)
        assert self.process.returncode == 0, said
        assert "damaged" not in said


def found(out: Path) -> dict[str, object]:
    """What a search has found, but for times and starts; and the files that it has."""
    trials = [json.loads(path.read_text()) for path in sorted(out.glob("trials/*/trial.json"))]
    passing = {"seconds", "starts"}
    files = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    weights = [path.read_bytes() for path in sorted(out.glob("trials/*/best/*.safetensors"))]
    kept = [{key: each[key] for key in each.keys() - passing} for each in trials]
    return {
        "trials": kept,
        "recipe": (out / "best.yaml").read_text(),
        "files": files,
        "weights": weights,
    }


def test_a_killed_search_finds_what_an_undisturbed_one_does(tmp_path: Path):
    """Killed 25 times, in as many searches as that takes; some while they start."""
    chance = random.Random(0)
    data = tiny_runs.write_data(tmp_path / "data", images=8, splits=("train", "val"))
    Search(data, tmp_path, tmp_path / "whole").finish()
    whole, kills, searches = found(tmp_path / "whole"), 0, 0
    assert [trial["state"] for trial in whole["trials"]].count("failed") == 0
    while kills < KILLS:
        searches += 1
        out, started_last = tmp_path / f"search{searches}", False
        for _ in range(chance.randrange(3, 9)):
            search = Search(data, tmp_path, out)
            if started_last or chance.random() < 0.7:
                search.wait_for_progress()
                started_last = False
            else:
                started_last = True
            time.sleep(chance.uniform(0, 0.3))
            search.process.send_signal(signal.SIGKILL)
            search.process.communicate()
            kills += search.process.returncode == -signal.SIGKILL
        Search(data, tmp_path, out).finish()
        assert found(out) == whole, f"search {searches}"
