"""Several processes or micro-batches train the same weights as one process with one batch."""

import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import tiny_runs
import torch
from fixed_clock import FixedStepClock, float64_from, float64_main, sides_seen
from tiny_runs import Processes, assert_bit_equal, final_state, log_rows, run_tiny

from quick_weights import all_different
from setmatch.training.checkpoints.checkpoint import latest_valid
from setmatch.training.start import setup, start_run
from thorough import usually

# Without dropout, which differs between processes, and at a low rate: AdamW takes full steps even
# where the gradient is only rounding error, such as that of a key's bias.
DETERMINISTIC = ("model.arguments.dropout=0.0", "train.lr=1e-4", "train.backbone_lr=1e-4")
LOGGED = ("loss", "class", "l1", "giou", "class_error", "cardinality_error", "grad_norm")


def assert_same_training(run, other):
    """Weights and EMA agree within 1e-6, logged losses and gradient norms within 1e-5 of them."""
    mine, theirs = final_state(run), final_state(other)
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        if name.startswith(("trainer.model", "weights")):
            assert (value - theirs[name]).abs().max() < 1e-6, name
    for name in LOGGED:
        assert logged(run, name) == pytest.approx(logged(other, name), rel=1e-5), name


def logged(run, name):
    return [row[name] for row in log_rows(run) if row["kind"] == "train"]


@pytest.fixture(scope="module")
def one_batch(data, tmp_path_factory):
    """A run of 8 steps of 4 images at once in one process."""
    out = tmp_path_factory.mktemp("one") / "run"
    return run_tiny(data, out, *DETERMINISTIC, "train.micro_batch=4").folder


@pytest.mark.promise(9)
@pytest.mark.parametrize("micro_batch", usually([1, 2], 2))
def test_accumulation_gives_the_weights_of_one_batch(data, one_batch, tmp_path, micro_batch):
    """rf-detr #1503: 4 or 2 micro-batches give the weights of one batch, within 1e-6."""
    run_tiny(data, tmp_path / "run", *DETERMINISTIC, f"train.micro_batch={micro_batch}")
    assert_same_training(tmp_path / "run", one_batch)


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    "micro_batch", [1, pytest.param(2, marks=pytest.mark.campaign)], ids=["accumulated", "at_once"]
)
def test_two_processes_train_the_same_weights_as_one(data, one_batch, tmp_path, micro_batch):
    """Losses are divided by the boxes of all processes and micro-batches, so weights agree."""
    codes, outputs = Processes(
        tmp_path / "run", data, *DETERMINISTIC, f"train.micro_batch={micro_batch}", world=2
    ).wait()
    assert codes == [0, 0], outputs
    assert_same_training(tmp_path / "run", one_batch)
    assert outputs[1] == ""


FAMILY = (
    "model.preset=setmatch_n",
    "model.arguments={dim: 32, heads: 2, ffn_dim: 32, num_queries: 6}",
    *("train.muon_lr=0.03", "train.minutes=0.027", "train.micro_batch=1"),
    *("data.short_side_px=256", "data.long_side_px=256"),
    *("train.full_size_at=0.6", "train.ema_decay=0.9", "train.schedule=cosine"),
)


@pytest.mark.thorough
@pytest.mark.promise(9)
def test_two_processes_train_the_same_setmatch_weights_by_the_clock(data, tmp_path, monkeypatch):
    """Denoising draws the same noise for the same images, and norms see the same micro-batches.

    Some of them have no object. All use the first process' clock, by which images grow.
    Running statistics are those of all micro-batches in their order, so that the EMA agrees, too.
    In float32, rounding may decide the side of a non-differentiable point: for some seeds weights
    are then 3e-4 apart after six steps (LOG.md, "Two processes and one, by seed").
    """
    monkeypatch.setattr(start_run, "Clock", FixedStepClock)
    monkeypatch.setattr(setup, "initialize", float64_from(setup.initialize))
    sides = sides_seen(monkeypatch)
    with all_different():  # as in the processes
        run_tiny(data, tmp_path / "one", *FAMILY)
    assert list(dict.fromkeys(sides)) == [256, 192, 224]  # full size first, and again at the end
    codes, outputs = Processes(tmp_path / "two", data, *FAMILY, world=2, main=float64_main).wait()
    assert codes == [0, 0], outputs
    assert latest_valid(tmp_path / "two").step == latest_valid(tmp_path / "one").step == 6
    one, two = final_state(tmp_path / "one"), final_state(tmp_path / "two")
    for name, value in one.items():
        learned = name.startswith(("trainer.model", "weights"))
        if learned:
            assert (value - two[name]).abs().max() < 1e-12, name
    losses = [logged(tmp_path / run, "denoising/giou") for run in ("one", "two")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.promise(6)
def test_a_run_resumes_with_another_number_of_processes(data, one_batch, tmp_path, monkeypatch):
    """Started by one process, finished by two: the same weights within 1e-6."""
    with monkeypatch.context() as patch:
        tiny_runs.crash_before(4, patch)
        with pytest.raises(tiny_runs.CrashError):
            run_tiny(data, tmp_path / "run", *DETERMINISTIC)
    codes, outputs = Processes(tmp_path / "run", data, *DETERMINISTIC, world=2).wait()
    assert codes == [0, 0], outputs
    assert_same_training(tmp_path / "run", one_batch)


@pytest.mark.promise(7)
@pytest.mark.parametrize("victim", [1, pytest.param(0, marks=pytest.mark.campaign)])
def test_when_a_process_dies_the_others_exit(data, tmp_path, victim):
    """Within 60 s, with an error that says how to resume."""
    run = Processes(tmp_path / "run", data, "train.epochs=2000", world=2)
    run.wait_for_step(4)
    run.kill(victim)
    started = time.monotonic()
    codes, outputs = run.wait(60)
    assert codes[victim] == -9
    assert codes[1 - victim] == 2
    assert "another process of this run ended" in outputs[1 - victim]
    assert "--resume" in outputs[1 - victim]
    assert time.monotonic() - started < 60


def test_a_signal_to_one_process_stops_all_at_the_same_step(data, tmp_path):
    """One SIGTERM, one checkpoint, the same exit code everywhere."""
    run = Processes(tmp_path / "run", data, "train.epochs=2000", world=2)
    run.wait_for_step(4)
    run.kill(1, signal.SIGTERM)
    codes, outputs = run.wait()
    assert codes == [143, 143], outputs
    step = latest_valid(tmp_path / "run").step
    assert all(f"after step {step}," in text for text in outputs)


@pytest.mark.promise(7)
@pytest.mark.campaign
@pytest.mark.parametrize("rendezvous", ["--standalone", "--master-port={port}"])
def test_torchrun_restarts_a_run_of_which_a_process_died(data, whole, tmp_path, rendezvous):
    """With --max-restarts=1 one killed process costs one restart; the result is bit-equal."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(f"""
        import os, signal, sys
        from pathlib import Path
        sys.path.insert(0, {str(Path(tiny_runs.__file__).parent)!r})
        import tiny_runs
        from setmatch.training.step import TrainStep
        original, steps = TrainStep.step, []
        def dying(self, *arguments):
            steps.append(1)
            first = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
            if first and os.environ["RANK"] == "1" and len(steps) == 5:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(self, *arguments)
        TrainStep.step = dying
        log = "log" + os.environ["RANK"] + os.environ["TORCHELASTIC_RESTART_COUNT"]
        here = Path({str(tmp_path)!r})
        tiny_runs.main(here / "run", Path({str(data)!r}), [], {{}}, here / log)
        """)
    )
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = rendezvous.format(port=listener.getsockname()[1])
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            address,
            "--nproc-per-node=2",
            "--max-restarts=1",
            str(script),
        ],
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "another process of this run ended" in (tmp_path / "log00").read_text()
    assert_bit_equal(tmp_path / "run", whole)


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """An uninterrupted run of two processes."""
    out = tmp_path_factory.mktemp("whole") / "run"
    codes, outputs = Processes(out, data, world=2).wait()
    assert codes == [0, 0], outputs
    return out


@pytest.mark.promise(6)
def test_an_error_in_the_first_process_is_raised_in_all(data, one_batch, tmp_path):
    codes, outputs = Processes(one_batch, data, "train.lr=1", world=2).wait()
    assert codes == [2, 2]
    assert all("train.lr was 0.0001 and is 1.0" in text for text in outputs)


@pytest.mark.campaign
@pytest.mark.parametrize("workers", [0, 2])
def test_two_processes_are_repeatable_to_the_bit(data, tmp_path, workers):
    """The same command gives the same bits, dropout and average included."""
    for name in ("a", "b"):
        codes, outputs = Processes(tmp_path / name, data, f"data.workers={workers}", world=2).wait()
        assert codes == [0, 0], outputs
    assert_bit_equal(tmp_path / "a", tmp_path / "b")
    assert torch.is_tensor(next(iter(final_state(tmp_path / "a").values())))
