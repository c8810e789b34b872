"""Runs of setmatch_n itself on small images, by torchrun or alone, that can be killed."""

import os
import signal
import subprocess
import sys
import time

import tiny_runs

from setmatch.training.logging.writers import LOG, read_rows

STEPS = 13  # 5 epochs of 10 images, 4 at a time
RECIPE = (
    "data.augment=small",
    "data.short_side_px=64",
    "data.long_side_px=96",
    "data.workers=0",
    "train.epochs=5",
    "train.batch_size=4",
    "train.micro_batch=2",
    "train.warmup_steps=2",
    "train.ema_decay=0.9",
    "train.precision=float32",
    "train.checkpoint_every=2",
    "train.evaluate_every=2",
    "train.log_every=1",
)
SETTINGS = [argument for setting in RECIPE for argument in ("--set", setting)]


def write_data(folder):
    """Ten training and ten validation images."""
    return tiny_runs.write_data(folder, splits=("train", "val"))


class RealRun:
    """A command that trains into the folder `out`, or resumes there; `by_torchrun` as two ranks."""

    def __init__(self, data, out, by_torchrun=False):
        self.out = out
        command = [sys.executable, "-m"]
        if by_torchrun:
            command += ["torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
        command += ["setmatch", "train", str(data), "--out", str(out), "--resume"]
        command += ["--weights", "none", "--device", "cpu", *SETTINGS]
        self.said = out.with_name(f"{out.name}_said")
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with self.said.open("w") as said:
            self.process = subprocess.Popen(command, stdout=said, stderr=said, env=environment)

    def wait_for_step(self, steps):
        """Wait until the log has a line after `steps` steps; return False if the run ended."""
        while self.process.poll() is None:
            if any(row["step"] >= steps for row in read_rows(self.out / LOG, STEPS)):
                return True
            time.sleep(0.01)
        return False

    def ranks(self):
        """Return the ids of torchrun's processes."""
        pid = self.process.pid
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(child) for child in file.read().split()]

    def kill(self, pid):
        """Send SIGKILL; return whether there was such a process."""
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True

    def wait(self, seconds=250):
        """Return the exit code and what was said."""
        return self.process.wait(seconds), self.said.read_text()


def wait_until_gone(pids, seconds=250):
    """Wait for processes that are no children of this one."""
    end = time.monotonic() + seconds
    while any(os.path.exists(f"/proc/{pid}") for pid in pids):
        assert time.monotonic() < end, "a process outlives its torchrun"
        time.sleep(0.05)
