"""A disk that is really full: a clear error, earlier checkpoints intact, the same end after all."""

import os
import shutil
import subprocess

import pytest
import tiny_runs
from test_run_folder import between_steps
from tiny_runs import assert_bit_equal, log_rows, run_tiny

from setmatch.errors import ConfigError, TrainingError
from setmatch.files.manifest import read_manifest
from setmatch.training.checkpoints.checkpoint import latest_valid
from thorough import usually

PAGE_BYTES = 4096
MOUNT = ["mount", "-t", "tmpfs", "-o", "size=8m", "none"]


def _can_mount():
    """Only the administrator can, and not in every container."""
    return os.geteuid() == 0 and subprocess.run(["unshare", "-m", "true"]).returncode == 0


needs_disk = pytest.mark.skipif(not _can_mount(), reason="only root can mount a small disk")


@pytest.fixture
def disk(tmp_path):
    """A disk of 8 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run([*MOUNT, str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)  # a worker may still use it


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return tiny_runs.write_data(tmp_path_factory.mktemp("scenes"), splits=("train", "val"))


@pytest.fixture(scope="module")
def whole(scenes, tmp_path_factory):
    return run_tiny(scenes, tmp_path_factory.mktemp("whole") / "run").folder


def fill(disk, pages_left):
    """Write a file that leaves so many pages free."""
    left = shutil.disk_usage(disk).free - pages_left * PAGE_BYTES
    with (disk / "ballast").open("wb") as file:
        file.write(b"x" * max(left, 0))


# From the first log line to half of a checkpoint, of best weights, or of a page.
OFTEN = {(2, 0): (), (4, 3): (), (5, 30): pytest.mark.thorough}  # all others in the campaign
ROOM = [
    pytest.param(step, pages, marks=OFTEN.get((step, pages), pytest.mark.campaign))
    for step in (0, 2, 4, 5, 7)
    for pages in (0, 1, 3, 10, 30, 60)
]


@needs_disk
@pytest.mark.promise(4)
@pytest.mark.parametrize(("step", "pages"), ROOM)
def test_a_disk_that_becomes_full_costs_no_checkpoint(
    scenes, whole, disk, monkeypatch, step, pages
):
    """The file is named; with room again, the run resumes and ends in the same bits."""
    run = disk / "run"
    with monkeypatch.context() as patch:
        between_steps(patch, step, lambda: fill(disk, pages))
        with pytest.raises(TrainingError, match=rf"{run}.*cannot be written .*--resume"):
            run_tiny(scenes, run)
    for folder in (run / "checkpoints").glob("step_*"):
        read_manifest(folder)
    assert not [path for path in run.rglob(".*") if path.name.startswith(".writing")]
    (disk / "ballast").unlink()
    run_tiny(scenes, run, resume=True)
    assert_bit_equal(run, whole)
    timeless = [
        [{**row, "images_per_s": 0, "seconds": 0} for row in log_rows(each)]
        for each in (run, whole)
    ]
    assert timeless[0] == timeless[1]


@needs_disk
@pytest.mark.promise(4)
@pytest.mark.parametrize("pages", [0, 1])
def test_a_run_into_a_full_disk_is_refused_by_name(scenes, disk, pages):
    fill(disk, pages)
    with pytest.raises((ConfigError, TrainingError), match=rf"{disk}/run.*cannot be written"):
        run_tiny(scenes, disk / "run")


@pytest.mark.promise(4)
@pytest.mark.parametrize("name", usually(["log.jsonl", "log.csv"], "log.jsonl"))
def test_a_log_on_a_full_device_is_named(scenes, whole, tmp_path, monkeypatch, name):
    """The system itself refuses the line; the next run renames the link and starts."""
    run = tmp_path / "run"

    def link():
        (run / name).unlink()
        (run / name).symlink_to("/dev/full")

    with monkeypatch.context() as patch:
        between_steps(patch, 4, link)
        with pytest.raises(TrainingError, match=rf"{name}: cannot be written \(No space left"):
            run_tiny(scenes, run)
    assert latest_valid(run).step == 3
    with pytest.warns(UserWarning, match=name):
        run_tiny(scenes, run, resume=True)
    assert_bit_equal(run, whole)


@pytest.mark.promise(4)
def test_a_folder_that_cannot_be_written_is_refused_by_name(scenes):
    """Not even the administrator may write into /proc."""
    with pytest.raises(ConfigError, match=r"/proc/run: cannot be written"):
        run_tiny(scenes, "/proc/run")
