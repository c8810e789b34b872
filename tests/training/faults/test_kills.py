"""SIGKILL, SIGTERM and Ctrl-C at random moments: one in every test run, many in the campaign."""

import os
import random
import signal
import time
from pathlib import Path

import pytest
import tiny_runs
from tiny_runs import Processes, assert_same_run, final_state, log_rows

from setmatch.training.checkpoints.checkpoint import latest_valid

# The last three of five epochs return to the best checkpoint of the first two, more than once.
SETTINGS = ("train.log_every=1", "train.epochs=5", "train.return_to_best_at=0.4")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Data with a validation split, so that kills also hit evaluations and RUN/best."""
    return tiny_runs.write_data(tmp_path_factory.mktemp("scenes"), splits=("train", "val"))


@pytest.fixture(scope="module")
def uninterrupted(scenes, tmp_path_factory):
    """Uninterrupted runs by number of processes, and their time."""
    runs = {}
    for world in (1, 2):
        out = tmp_path_factory.mktemp("uninterrupted") / "run"
        if world == 1:
            Processes(out, scenes, *SETTINGS).wait()  # starts the server as well
        again = out.with_name("again")
        started = time.monotonic()
        codes, outputs = Processes(again, scenes, *SETTINGS, world=world).wait()
        assert codes == [0] * world, outputs
        runs[world] = (again, time.monotonic() - started)
    return runs


def points(thorough, campaign):
    """Return seeds of random moments: one, a few for `.ci/run`, and more for the campaign."""
    marked = [pytest.param(seed, marks=pytest.mark.thorough) for seed in range(1, thorough)]
    marked += [pytest.param(seed, marks=pytest.mark.campaign) for seed in range(thorough, campaign)]
    return [0, *marked]


@pytest.mark.promise(1)
@pytest.mark.parametrize("seed", points(2, 25))
@pytest.mark.parametrize("world", [1, 2])
def test_a_run_killed_at_any_moment_resumes_bit_equal(scenes, uninterrupted, tmp_path, world, seed):
    """Killed at a random moment, as one or two processes, the run resumes to the same bits."""
    whole, took_s = uninterrupted[world]
    rng = random.Random(100 * world + seed)
    run = Processes(tmp_path / "run", scenes, *SETTINGS, world=world)
    if seed % 5 != 4:  # the fifth is killed before or during the rendezvous
        run.wait_for_step(1)
    time.sleep(rng.uniform(0, took_s / 2))
    run.kill(rng.randrange(world))
    codes, _ = run.wait(
        120
    )  # if one is killed before the rendezvous, the other waits for its timeout
    assert all(code is not None for code in codes), "a process outlives the killed one"
    codes, outputs = Processes(tmp_path / "run", scenes, *SETTINGS, world=world).wait()
    assert codes == [0] * world, outputs
    assert "damaged" not in outputs[0]
    assert_same_run(tmp_path / "run", whole)


@pytest.mark.promise(3)
@pytest.mark.parametrize("seed", points(1, 20))
@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.thorough)],
)
def test_a_signal_at_any_moment_loses_no_step(scenes, uninterrupted, tmp_path, number, code, seed):
    """The documented exit code, a checkpoint of every step that was logged, the same end."""
    whole, took_s = uninterrupted[1]
    rng = random.Random(seed)
    run = Processes(tmp_path / "run", scenes, *SETTINGS)
    run.wait_for_step(1)
    time.sleep(rng.uniform(0, took_s / 2))
    run.kill(number=number)
    codes, outputs = run.wait()
    assert codes in ([code], [0]), outputs
    assert latest_valid(tmp_path / "run").step == max(r["step"] for r in log_rows(tmp_path / "run"))
    codes, outputs = Processes(tmp_path / "run", scenes, *SETTINGS).wait()
    assert codes == [0], outputs
    assert_same_run(tmp_path / "run", whole)


@pytest.mark.promise(3)
def test_a_signal_to_the_whole_job_waits_for_the_step_too(scenes, tmp_path):
    """Cluster managers and terminals signal the data-loading processes as well."""
    run = Processes(tmp_path / "run", scenes, "train.epochs=2000", "data.workers=2")
    run.wait_for_step(4)
    os.killpg(run.ranks[0].pid, signal.SIGTERM)
    codes, outputs = run.wait()
    assert codes == [143], outputs


def test_the_death_of_a_data_loading_process_is_explained(data, tmp_path):
    """The system kills one when memory runs out; the error gives advice."""
    run = Processes(tmp_path / "run", data, "train.epochs=2000", "data.workers=2")
    run.wait_for_step(4)
    children = Path(f"/proc/{run.ranks[0].pid}/task/{run.ranks[0].pid}/children").read_text()
    os.kill(int(children.split()[0]), signal.SIGKILL)
    codes, outputs = run.wait()
    assert codes == [2], outputs
    assert "set data.workers lower" in outputs[0]


@pytest.mark.promise(3)
def test_a_second_ctrl_c_does_not_wait_for_the_step(scenes, tmp_path):
    """The last checkpoint is valid."""
    run = Processes(tmp_path / "run", scenes, "train.epochs=2000")
    run.wait_for_step(4)
    run.kill(number=signal.SIGINT)
    run.kill(number=signal.SIGINT)
    codes, _ = run.wait(10)
    assert codes[0] in (1, 130)  # KeyboardInterrupt unless the first was served already
    assert final_state(tmp_path / "run")
