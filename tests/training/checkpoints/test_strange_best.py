"""Best weights of another run in a run's folder are noticed when it is resumed."""

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import tiny_runs
from tiny_runs import assert_bit_equal, run_tiny

from setmatch.files.manifest import MANIFEST, write_manifest
from setmatch.training.checkpoints.best import BEST, METRICS, Run
from setmatch.training.checkpoints.strange_best import set_aside_strange_best
from setmatch.training.logging.writers import LOG

CLASSES = ("cat", "dog")
OF_RUN = {"AP": 0.5, "AP50": 0.75, "per_class": {"cat": {}, "dog": {}}, "step": 20}
ROWS = [
    {"kind": "val", "step": step, "AP": ap, "AP50": 0.75}
    for step, ap in ((10, 0.25), (20, 0.5), (30, 0.5))
]


def write(run: Path, metrics: dict[str, Any], rows: list[dict[str, Any]], end: str = "") -> None:
    (run / BEST).mkdir()
    (run / BEST / METRICS).write_text(json.dumps(metrics))
    write_manifest(run / BEST, {"step": metrics.get("step")})
    (run / LOG).write_text("".join(f"{json.dumps(row)}\n" for row in rows) + end)


STRANGE: dict[str, tuple[dict[str, Any], str]] = {
    "another AP": (OF_RUN | {"AP": 0.625}, "another AP after step 20"),
    "another AP50": (OF_RUN | {"AP50": 0.5}, "another AP50 after step 20"),
    "a step that was not evaluated": (OF_RUN | {"step": 15}, "no evaluation after step 15"),
    "other classes": (OF_RUN | {"per_class": {"cow": {}}}, "other classes"),
    "more classes": (OF_RUN | {"per_class": {"cat": {}, "cow": {}}}, "other classes"),
    "no step": ({"AP": 0.5, "per_class": {}}, "no step or no classes"),
    "no classes": ({"AP": 0.5, "step": 20}, "no step or no classes"),
}


@pytest.mark.parametrize(("metrics", "reason"), STRANGE.values(), ids=STRANGE)
def test_metrics_that_the_run_contradicts_are_set_aside(
    tmp_path: Path, metrics: dict[str, Any], reason: str
):
    """Their weights are kept under another name."""
    write(tmp_path, metrics, ROWS)
    with pytest.warns(UserWarning, match=rf"not the weights of this run \(.*{reason}\)"):
        set_aside_strange_best(tmp_path, CLASSES)
    assert (tmp_path / "best.old_1" / METRICS).is_file()
    assert Run(tmp_path).best is None


OWN: dict[str, tuple[dict[str, Any], list[dict[str, Any]], str]] = {
    "the same": (OF_RUN, ROWS, ""),
    "newer than the log": (OF_RUN | {"step": 40, "AP": 0.75}, ROWS, ""),
    "older than a log that was deleted": (OF_RUN | {"step": 5, "AP": 0.75}, ROWS, ""),
    "no log": (OF_RUN, [], ""),
    "a damaged log": (OF_RUN, [ROWS[0], ROWS[2]], "{"),
    "fewer classes": (OF_RUN | {"per_class": {"dog": {}}}, ROWS, ""),
    "nothing to find": (OF_RUN | {"AP": None}, ROWS, ""),
}


@pytest.mark.parametrize(("metrics", "rows", "end"), OWN.values(), ids=OWN)
def test_metrics_that_may_be_the_runs_own_stay(
    tmp_path: Path, metrics: dict[str, Any], rows: list[dict[str, Any]], end: str
):
    write(tmp_path, metrics, rows, end)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        set_aside_strange_best(tmp_path, CLASSES)
    assert Run(tmp_path).best == metrics


@pytest.mark.thorough
def test_a_resumed_run_ends_with_its_own_best_weights(tmp_path: Path):
    """Not with those of a run of better metrics whose folder was copied over its own."""
    scenes = tiny_runs.write_data(tmp_path / "data", splits=("train", "val"))
    whole, run, other = (
        run_tiny(scenes, tmp_path / name, *settings).folder
        for name, settings in (
            ("whole", ()),
            ("run", ("train.epochs=1",)),
            ("other", ("train.lr=3e-3",)),
        )
    )
    shutil.rmtree(run / BEST)
    shutil.copytree(other / BEST, run / BEST)
    metrics = json.loads((run / BEST / METRICS).read_text())
    step = json.loads((run / LOG).read_text().splitlines()[-1])["step"]
    (run / BEST / METRICS).write_text(json.dumps(metrics | {"AP": 0.99, "step": step}))
    (run / BEST / MANIFEST).unlink()
    write_manifest(run / BEST, {"step": step})
    with pytest.warns(UserWarning, match="not the weights of this run"):
        run_tiny(scenes, run, resume=True, allow_changes=True)
    assert_bit_equal(run, whole)
    assert Run(run).best == Run(whole).best
