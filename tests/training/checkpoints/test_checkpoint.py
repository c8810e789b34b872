"""Checkpoints are written atomically, and damage is detected."""

import errno
import os
import random
import re
import subprocess
import sys
import textwrap

import pytest
import torch

from setmatch.errors import TrainingError
from setmatch.files.leftovers import remove_leftovers
from setmatch.files.manifest import (
    DamagedError,
    read_manifest,
    write_whole,
)
from setmatch.training.checkpoints.checkpoint import (
    has_checkpoints,
    latest_valid,
    set_aside_newer,
    write_checkpoint,
)
from small_disk import files_of_at_most


def fill(folder):
    torch.save({"weights": torch.arange(500.0)}, folder / "trainer.pt")
    (folder / "model.json").write_text('{"preset": "none"}')


def write(run, *steps, keep=2):
    for step in steps:
        write_checkpoint(run, step, fill, {"recipe": {"train": {"lr": 1e-4}}}, keep)


def names(run):
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def test_the_newest_checkpoints_are_kept(tmp_path):
    """Two remain of four; the newest comes back with its facts."""
    write(tmp_path, 1, 2, 30, 200)
    assert names(tmp_path) == ["step_00000030", "step_00000200"]
    found = latest_valid(tmp_path)
    assert found.step == 200
    assert found.facts["recipe"] == {"train": {"lr": 1e-4}}


@pytest.mark.promise(2, cases=400)
def test_every_truncation_and_bit_flip_is_detected_and_named(tmp_path):
    """200 truncations and 200 flipped bits: each is named, and the previous good one is used."""
    write(tmp_path, 1, 2)
    rng = random.Random(7)
    for case in range(400):
        victim = rng.choice(sorted((tmp_path / "checkpoints/step_00000002").iterdir()))
        whole = victim.read_bytes()
        place = rng.randrange(len(whole))
        flipped = bytes([whole[place] ^ 1 << rng.randrange(8)])
        cut = whole[:place] if case % 2 else whole[:place] + flipped + whole[place + 1 :]
        victim.write_bytes(cut)
        with pytest.warns(UserWarning, match=rf"step_00000002.{victim.name}: "):
            assert latest_valid(tmp_path).step == 1
        victim.write_bytes(whole)
    assert latest_valid(tmp_path).step == 2


@pytest.mark.parametrize("name", ["trainer.pt", "model.json", "manifest.json"])
def test_a_missing_file_is_named(tmp_path, name):
    """A checkpoint that lost a file is damaged."""
    write(tmp_path, 1)
    (tmp_path / "checkpoints/step_00000001" / name).unlink()
    with pytest.raises(DamagedError, match=name):
        read_manifest(tmp_path / "checkpoints/step_00000001")


def test_no_valid_checkpoint_is_an_error(tmp_path):
    with pytest.raises(TrainingError, match="there are none"):
        latest_valid(tmp_path)
    write(tmp_path, 1, 2)
    for folder in (tmp_path / "checkpoints").iterdir():
        (folder / "trainer.pt").write_bytes(b"")
    with (
        pytest.warns(UserWarning, match=r"has 0 bytes"),
        pytest.raises(TrainingError, match="all 2 are damaged"),
    ):
        latest_valid(tmp_path)
    assert has_checkpoints(tmp_path)


def test_damaged_newer_checkpoints_are_renamed(tmp_path):
    """They no longer count as checkpoints, and are not deleted."""
    write(tmp_path, 1, 2)
    set_aside_newer(tmp_path, 1)
    assert names(tmp_path) == ["damaged_step_00000002", "step_00000001"]
    assert latest_valid(tmp_path).step == 1


def test_a_full_disk_leaves_the_earlier_checkpoint_and_nothing_else(tmp_path, monkeypatch):
    """The error names the folder and the reason; no leftover takes space from the next attempt."""
    write(tmp_path, 1)

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TrainingError, match=r"step_00000002.*No space left"):
        write(tmp_path, 2)
    assert names(tmp_path) == ["step_00000001"]
    assert latest_valid(tmp_path).step == 1


def test_a_file_too_large_for_the_system_is_a_clear_error(tmp_path):
    """The system's own refusal, in the middle of torch's writing, is one clear error as well."""
    write_checkpoint(tmp_path, 1, lambda folder: (folder / "small").write_text("x"), {}, 2)
    big = torch.ones(100_000)
    said = re.escape(f"{tmp_path}/checkpoints/step_00000002: cannot be written")
    with pytest.raises(TrainingError, match=said), files_of_at_most(20_000):
        write_checkpoint(tmp_path, 2, lambda folder: torch.save(big, folder / "trainer.pt"), {}, 2)
    assert latest_valid(tmp_path).step == 1
    assert names(tmp_path) == ["step_00000001"]


def test_a_folder_that_cannot_be_written_is_a_clear_error():
    """A place where nobody may write is named."""
    from pathlib import Path

    with pytest.raises(TrainingError, match="/proc/run"):
        write(Path("/proc/run"), 1)


@pytest.mark.parametrize("moment", ["fill", "fsync", "rename 1", "rename 2"])
def test_a_kill_at_any_moment_leaves_the_old_folder_or_the_new(tmp_path, moment):
    """Killed while filling, flushing or renaming, a replaced folder is whole: old or new."""
    folder = tmp_path / "best"
    write_whole(folder, fill, {"which": "old"})
    script = textwrap.dedent(f"""
        import os, signal, pathlib
        from setmatch.files.manifest import write_whole
        die = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)
        def filler(folder):
            (folder / "a").write_text("new")
            if {moment!r} == "fill": die()
        if {moment!r} == "fsync": os.fsync = die
        calls, rename = [], pathlib.Path.rename
        def patched(self, target):
            calls.append(1)
            if {moment!r} == f"rename {{len(calls)}}": die()
            return rename(self, target)
        pathlib.Path.rename = patched
        write_whole(pathlib.Path({str(folder)!r}), filler, {{"which": "new"}})
    """)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True)
    assert done.returncode == -9, done.stderr
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["best"]
    assert read_manifest(folder)["which"] == "old"


def test_replacing_a_folder_leaves_only_the_new(tmp_path):
    """Files of the old folder do not survive in the new one."""
    write_whole(tmp_path / "best", fill, {})
    write_whole(tmp_path / "best", lambda folder: (folder / "b").write_text("b"), {})
    assert sorted(p.name for p in (tmp_path / "best").iterdir()) == ["b", "manifest.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["best"]
