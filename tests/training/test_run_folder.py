"""The folder of a run: written by one run at a time, and by that one to the end."""

import json
import os
import re
import shutil
import signal
import warnings

import pytest
import tiny_runs
from tiny_runs import Processes, assert_bit_equal, log_rows, run_tiny

from setmatch.errors import ConfigError, TrainingError
from setmatch.files.folder_lock import LOCK, FolderLock, locked
from setmatch.training.checkpoints.best import Run
from setmatch.training.checkpoints.checkpoint import latest_valid
from setmatch.training.loop import evaluations
from setmatch.training.loop.trainer import Trainer
from setmatch.training.run_folder import FILES, FOLDERS, tidy
from setmatch.training.signals import Stopped
from thorough import usually

LONG = "train.epochs=2000"


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Data with a validation split, so that runs have best weights."""
    return tiny_runs.write_data(tmp_path_factory.mktemp("scenes"), splits=("train", "val"))


@pytest.fixture(scope="module")
def whole(scenes, tmp_path_factory):
    """An undisturbed run of 8 steps."""
    return run_tiny(scenes, tmp_path_factory.mktemp("whole") / "run").folder


def names(run):
    return sorted(str(path.relative_to(run)) for path in run.rglob("*"))


def between_steps(monkeypatch, step, work):
    """Let `work` happen before a run takes `step`."""
    take_step = Trainer.take_step

    def patched(self, window, normalizer, number):
        if number == step:
            work()
        take_step(self, window, normalizer, number)

    monkeypatch.setattr(Trainer, "take_step", patched)


@pytest.mark.parametrize(("world", "resume"), [(1, False), (2, True)])
def test_a_second_run_into_the_same_folder_is_refused(data, tmp_path, resume, world):
    """Whether it resumes or not, it names the process that writes, and disturbs nothing."""
    run = Processes(tmp_path / "run", data, LONG, world=world)
    run.wait_for_step(2)
    with pytest.raises(ConfigError) as error:
        run_tiny(data, tmp_path / "run", LONG, resume=resume)
    assert f"is being written by process {run.ranks[0].pid} on " in str(error.value)
    assert all(process.is_alive() for process in run.ranks)
    run.kill(number=signal.SIGTERM)
    codes, said = run.wait()
    assert codes == [143] * world, said
    assert not (tmp_path / "run" / LOCK).exists()


def test_processes_of_a_second_run_all_learn_who_writes_the_folder(data, tmp_path):
    """The error of the first process reaches the others."""
    with locked(tmp_path / "run"):
        codes, said = Processes(tmp_path / "run", data, world=2).wait()
    assert codes == [2, 2]
    assert all(f"is being written by process {os.getpid()} on " in text for text in said)


def test_a_refused_run_leaves_nothing(tmp_path):
    """Data that cannot be read is found after the folder was locked."""
    with pytest.raises(Exception, match="nowhere"):
        run_tiny(tmp_path / "nowhere", tmp_path / "deep/run")
    assert list(tmp_path.iterdir()) == []


DELETED = {
    "everything": lambda run: shutil.rmtree(run),
    "checkpoints": lambda run: shutil.rmtree(run / "checkpoints", ignore_errors=True),
    "all but checkpoints": lambda run: [
        path.unlink() if path.is_file() else shutil.rmtree(path)
        for path in run.iterdir()
        if path.name != "checkpoints"
    ],
}


@pytest.mark.parametrize(
    ("what", "step"),
    [
        ("everything", 0),
        pytest.param("everything", 5, marks=pytest.mark.thorough),
        pytest.param("checkpoints", 7, marks=pytest.mark.thorough),
        pytest.param("all but checkpoints", 4, marks=pytest.mark.thorough),
    ],
)
def test_what_is_deleted_in_mid_run_is_written_again(
    scenes, whole, tmp_path, monkeypatch, what, step
):
    """The run ends in the same bits, and in a folder that can be resumed and loaded."""
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        between_steps(patch, step, lambda: DELETED[what](run))
        run_tiny(scenes, run)
    assert_bit_equal(run, whole)
    assert log_rows(run)[-1]["kind"] == "val"
    assert (run / "log.csv").read_text().startswith("kind,step,")
    run_tiny(scenes, run, resume=True)
    assert_bit_equal(run, whole)
    assert Run(run).best["step"] == 8
    missing = set(names(whole)) - set(names(run))
    assert all(name.startswith("checkpoints/step_00000006") for name in missing)


@pytest.mark.parametrize("step", usually([1, 4], 4))
def test_a_run_whose_folder_was_deleted_can_be_killed_and_resumed(
    scenes, whole, tmp_path, monkeypatch, step
):
    """It is saved again as soon as that is noticed, not only at the next checkpoint."""
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        between_steps(patch, step, lambda: shutil.rmtree(run))
        tiny_runs.crash_before(7, patch)
        with pytest.raises(tiny_runs.CrashError):
            run_tiny(scenes, run, "train.checkpoint_every=100")
    assert latest_valid(run).step > step
    run_tiny(scenes, run, "train.checkpoint_every=100", resume=True)
    assert_bit_equal(run, whole)


def test_deletion_is_said(scenes, tmp_path, monkeypatch, capsys):
    between_steps(monkeypatch, 3, lambda: shutil.rmtree(tmp_path / "run"))
    run_tiny(scenes, tmp_path / "run")
    said = " ".join("".join(capsys.readouterr()).split())
    assert "was deleted; it is written again, without its earlier checkpoints and log" in said


def test_a_run_gives_way_to_the_run_that_replaced_its_folder(scenes, tmp_path, monkeypatch):
    """Deleted, and created again by another process: the first run stops, and touches nothing."""
    run, second = tmp_path / "run", []

    def replace():
        shutil.rmtree(run)
        second.append(FolderLock(run))

    between_steps(monkeypatch, 4, replace)
    with pytest.raises(TrainingError, match=r"was deleted or moved; .*is being written by"):
        run_tiny(scenes, run)
    assert names(run) == [LOCK]
    second[0].release()


def test_best_weights_are_never_without_a_checkpoint(scenes, tmp_path, monkeypatch):
    """Otherwise a run that is killed after the evaluation could not be resumed."""
    run = tmp_path / "run"
    save = evaluations.keep_if_best

    def checked(folder, *rest):
        assert latest_valid(folder)
        return save(folder, *rest)

    monkeypatch.setattr(evaluations, "keep_if_best", checked)
    evaluate = evaluations.evaluate

    def deleting(*given, **options):
        shutil.rmtree(run)
        return evaluate(*given, **options)

    monkeypatch.setattr(evaluations, "evaluate", deleting)
    run_tiny(scenes, run)
    assert Run(run).best["step"] == 8


IN_THE_WAY = {
    "a folder": lambda path: (path / "inside").mkdir(parents=True),
    "a file": lambda path: path.write_text("in the way"),
    "a dead link": lambda path: path.symlink_to("nowhere"),
    "a pipe": lambda path: os.mkfifo(path),
}
MISPLACED = [
    (name, thing)
    for names, right in ((FILES, "a file"), (FOLDERS, "a folder"))
    for name in names
    for thing in IN_THE_WAY
    if thing != right
]


@pytest.mark.parametrize(("name", "thing"), MISPLACED)
def test_what_stands_in_the_place_of_a_file_is_renamed(tmp_path, name, thing):
    """Nothing is deleted, and a second one gets another name."""
    for number in (1, 2):
        IN_THE_WAY[thing](tmp_path / name)
        with pytest.warns(UserWarning, match=rf"not what a run .* renamed to {name}\.old_{number}"):
            tidy(tmp_path)
    assert names(tmp_path)[0] == f"{name}.old_1"
    assert not os.path.lexists(tmp_path / name)


@pytest.mark.parametrize("name", [*FILES, "best"])
def test_a_log_that_became_a_folder_stops_no_resume(scenes, whole, tmp_path, name):
    """Nor does any other file; afterwards nothing is said any more."""
    run = shutil.copytree(whole, tmp_path / "run")
    (run / name).rename(run / "elsewhere")
    IN_THE_WAY["a file" if name == "best" else "a folder"](run / name)
    with pytest.warns(UserWarning, match=rf"{name}: is not what a run writes there"):
        run_tiny(scenes, run, resume=True)
    assert_bit_equal(run, whole)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run_tiny(scenes, run, resume=True)


@pytest.mark.parametrize(
    ("name", "thing"),
    [
        ("log.jsonl", "a pipe"),
        ("log.csv", "a folder"),
        pytest.param("log.jsonl", "a folder", marks=pytest.mark.thorough),
        pytest.param("log.csv", "a pipe", marks=pytest.mark.thorough),
    ],
)
def test_a_log_that_cannot_be_written_is_named(data, tmp_path, monkeypatch, name, thing):
    """In mid-run that ends the run, without waiting; the resumed one renames what is in the way."""
    run = tmp_path / "run"

    def block():
        (run / name).unlink()
        IN_THE_WAY[thing](run / name)

    with monkeypatch.context() as patch:
        between_steps(patch, 4, block)
        with pytest.raises(TrainingError, match=rf"{name}: cannot be written.*--resume"):
            run_tiny(data, run)
    with pytest.warns(UserWarning, match=name):
        run_tiny(data, run, resume=True)
    assert latest_valid(run).step == 8


REPORTS = ("live.html", "live.json", "data_report.json")
UNWRITABLE = IN_THE_WAY | {"a full device": lambda path: path.symlink_to("/dev/full")}


@pytest.mark.parametrize(
    "blocked",
    usually(
        [(name, thing) for name in REPORTS for thing in ("a folder", "a pipe", "a full device")],
        *((name, "a folder") for name in REPORTS),
        ("live.html", "a full device"),
    ),
)
def test_a_report_that_cannot_be_written_ends_no_run(scenes, whole, tmp_path, monkeypatch, blocked):
    """It is said once."""
    run, (name, thing) = tmp_path / "run", blocked

    def block():
        (run / name).unlink(missing_ok=True)
        UNWRITABLE[thing](run / name)

    between_steps(monkeypatch, 3, block)
    with pytest.warns(UserWarning, match="training continues without it") as said:
        run_tiny(scenes, run)
    (ours,) = [str(each.message) for each in said if name in str(each.message)]
    assert re.search(rf"{run}/{name}: cannot be written \(.+\)", ours)
    assert_bit_equal(run, whole)


def test_a_report_that_can_be_written_again_is(scenes, tmp_path, monkeypatch):
    path = tmp_path / "run/data_report.json"
    work = {2: lambda: (path.unlink(), path.mkdir()), 5: path.rmdir}
    for step, each in work.items():
        between_steps(monkeypatch, step, each)
    with pytest.warns(UserWarning, match="training continues without it"):
        run_tiny(scenes, tmp_path / "run")
    assert "while_training" in json.loads(path.read_text())


def test_processes_stop_when_their_torchrun_has_ended(data, tmp_path, monkeypatch):
    """Nobody else would: they would hold the folder to the end."""
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    between_steps(monkeypatch, 4, lambda: monkeypatch.setattr(os, "getppid", lambda: 1))
    with pytest.raises(Stopped, match="stopped after its torchrun ended, after step 5") as stopped:
        run_tiny(data, tmp_path / "run")
    assert stopped.value.exit_code == 143
    assert latest_valid(tmp_path / "run").step == 5


def test_without_torchrun_a_parent_may_end(data, tmp_path, monkeypatch):
    """A run in the background outlives the shell that started it."""
    between_steps(monkeypatch, 4, lambda: monkeypatch.setattr(os, "getppid", lambda: 1))
    run_tiny(data, tmp_path / "run")
    assert latest_valid(tmp_path / "run").step == 8


@pytest.mark.parametrize("thing", usually([*IN_THE_WAY][1:], "a file"))
def test_what_takes_the_place_of_checkpoints_is_renamed_in_mid_run(
    scenes, whole, tmp_path, monkeypatch, thing
):
    """The run goes on, and what was there stays."""
    run = tmp_path / "run"

    def block():
        shutil.rmtree(run / "checkpoints")
        IN_THE_WAY[thing](run / "checkpoints")

    with monkeypatch.context() as patch:
        between_steps(patch, 5, block)
        with pytest.warns(
            UserWarning, match=r"checkpoints: is not .* renamed to checkpoints\.old_1"
        ):
            run_tiny(scenes, run)
    assert_bit_equal(run, whole)
    assert os.path.lexists(run / "checkpoints.old_1")
