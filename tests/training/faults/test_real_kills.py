"""SIGKILL at random moments of real runs: setmatch_n, from the command line and by torchrun."""

import random
import time

import pytest
from real_runs import STEPS, RealRun, wait_until_gone, write_data
from tiny_runs import assert_same_run

from setmatch.training.checkpoints.checkpoint import latest_valid

pytestmark = [pytest.mark.campaign, pytest.mark.promise(1), pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def undisturbed(data, tmp_path_factory):
    """A run that nobody killed, by whether it is torchrun's."""
    runs = {}

    def of(by_torchrun):
        if by_torchrun not in runs:
            out = tmp_path_factory.mktemp("undisturbed") / "run"
            code, said = RealRun(data, out, by_torchrun).wait()
            assert code == 0, said
            assert latest_valid(out).step == STEPS
            runs[by_torchrun] = out
        return runs[by_torchrun]

    return of


def moment(run, chance):
    """Wait for a random moment: at the start, in a step, a checkpoint or an evaluation."""
    if chance.random() < 0.2:
        time.sleep(chance.uniform(0.5, 4))
        return
    assert run.wait_for_step(chance.randrange(1, STEPS - 3)), run.said.read_text()
    time.sleep(chance.uniform(0, 0.2))


@pytest.mark.parametrize("seed", range(25))
def test_a_killed_run_resumes_to_the_same_bits(data, undisturbed, tmp_path, seed):
    """The same command resumes it."""
    whole, chance = undisturbed(False), random.Random(seed)
    run = RealRun(data, tmp_path / "run")
    moment(run, chance)
    run.kill(run.process.pid)
    assert run.wait()[0] == -9
    code, said = RealRun(data, tmp_path / "run").wait()
    assert code == 0, said
    assert "damaged" not in said
    assert_same_run(tmp_path / "run", whole)


@pytest.mark.parametrize("seed", range(25))
def test_a_killed_run_of_two_processes_resumes_to_the_same_bits(data, undisturbed, tmp_path, seed):
    """The victim is the first process, the second, or torchrun itself."""
    whole, chance = undisturbed(True), random.Random(100 + seed)
    run = RealRun(data, tmp_path / "run", by_torchrun=True)
    moment(run, chance)
    ranks = run.ranks()
    victims = [*ranks, run.process.pid]
    assert run.kill(victims[seed % len(victims)])
    assert run.wait()[0] != 0
    wait_until_gone(ranks)
    code, said = RealRun(data, tmp_path / "run", by_torchrun=True).wait()
    assert code == 0, said
    assert "damaged" not in said
    assert_same_run(tmp_path / "run", whole)
