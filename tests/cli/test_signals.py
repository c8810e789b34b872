"""Ctrl-C and SIGTERM: one line and the documented exit code, wherever they arrive."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest

from thorough import usually

HEAD = """
import time
from pathlib import Path
from setmatch.files.writing import atomic_folder

def reach(moment):
    Path(moment).touch()

def wait():
    while True:
        time.sleep(0.01)

def wait_for(name):
    while not Path(name).exists():
        time.sleep(0.01)
"""
# Modules that `--import` names: what the program does when the signal comes.
PLACES = {
    "waits": "reach('there'); wait()",
    "writes": "with atomic_folder(Path('result')):\n    reach('there'); wait()",
    "replaces": "Path('result').mkdir()\n"
    "with atomic_folder(Path('result'), replace=True):\n    reach('there'); wait()",
    "catches everything": "try:\n    reach('there'); wait()\n"
    "except BaseException:\n    pass\nwait()",
    "makes it an error of its own": "try:\n    reach('there'); wait()\n"
    "except KeyboardInterrupt:\n    raise ImportError('a part failed to import')",
    "is in a destructor": "class Held:\n    def __del__(self):\n        reach('there'); wait()\n"
    "held = Held()\ndel held\nwait()",
    # The question what became of the interruption comes before the destructor's is answered.
    "is in a slow destructor": "from setmatch import interruption\nclass Held:\n"
    "    def __del__(self):\n        try:\n            reach('there'); wait()\n"
    "        finally:\n            interruption._AGAIN_S = 1\n"
    "held = Held()\ndel held\nwait()",
    "is in a compiled string": "exec(\"reach('there'); wait()\")",
}
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
CASES = list(product(PLACES, CODES))
USUAL = (
    ("catches everything", signal.SIGINT),
    ("is in a slow destructor", signal.SIGTERM),
)


def heed_ctrl_c() -> None:
    """In a process that these tests start: they may run in the background, without Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Program:
    """`setmatch models` that imports a module first."""

    def __init__(self, folder: Path, module: str) -> None:
        (folder / "place.py").write_text(HEAD + module)
        path = os.pathsep.join([str(folder), *filter(None, sys.path)])
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-m", "setmatch", "--import", "place", "models"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=heed_ctrl_c,
        )

    def wait_for(self, moment: str) -> None:
        """Wait until the module has reached a moment."""
        while not (self.folder / moment).exists():
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.005)

    def end(self) -> tuple[int, str]:
        """Return the exit code, and what was said."""
        printed, said = self.process.communicate(timeout=60)
        assert printed == ""
        return self.process.returncode, said


@pytest.fixture
def start(tmp_path: Path) -> Callable[[str], Program]:
    return lambda module: Program(tmp_path, module)


@pytest.mark.parametrize("case", usually(CASES, *USUAL), ids=lambda case: f"{case[0]}-{case[1]}")
def test_a_signal_ends_the_program_in_one_line(
    start: Callable[[str], Program], case: tuple[str, signal.Signals]
):
    """Nothing is left but what the module made before, whatever a library makes of the signal."""
    place, number = case
    program = start(PLACES[place])
    program.wait_for("there")
    program.process.send_signal(number)
    assert program.end() == (CODES[number], "setmatch: interrupted\n")
    left = {path.name for path in program.folder.iterdir()} - {"__pycache__", "place.py", "there"}
    assert left == ({"result"} if place == "replaces" else set())


CLEANS_UP = """
try:
    reach('there')
    wait()
finally:
    reach('cleaning')
    wait_for('may end')
    reach('clean')
"""


@pytest.mark.parametrize("number", usually(CODES, signal.SIGINT))
def test_a_second_signal_leaves_the_clean_up_alone(
    start: Callable[[str], Program], number: signal.Signals
):
    program = start(CLEANS_UP)
    for moment in ("there", "cleaning"):
        program.wait_for(moment)
        program.process.send_signal(number)
    (program.folder / "may end").touch()
    assert program.end() == (CODES[number], "setmatch: interrupted\n")
    assert (program.folder / "clean").exists()


@pytest.mark.thorough
@pytest.mark.parametrize("number", CODES)
def test_a_third_signal_ends_a_clean_up_that_hangs(
    start: Callable[[str], Program], number: signal.Signals
):
    program = start(CLEANS_UP)
    for moment in ("there", "cleaning"):
        program.wait_for(moment)
        program.process.send_signal(number)
    while program.process.poll() is None:  # signals that wait count as one
        program.process.send_signal(number)
        time.sleep(0.01)
    assert program.end() == (CODES[number], "")


ENDS = """
import signal, sys, threading
from setmatch.interruption import Interruption

class Held:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)

with Interruption() as interruption:
    Held()
    try:
        signal.raise_signal(signal.SIGTERM)
    except KeyboardInterrupt:
        pass
    for timer in threading.enumerate()[1:]:
        timer.join()  # until it has asked what became of its signal
    code = interruption.finish(1)
sys.exit(f"ended with {code}")
"""


def test_a_signal_that_was_swallowed_does_not_come_again_after_one_that_was_not():
    """Otherwise it may come when the command has ended, and nothing is there to catch it.

    Nor do the questions what became of both count as further signals.
    """
    done = subprocess.run(
        [sys.executable, "-c", ENDS],
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=heed_ctrl_c,
    )
    assert done.stderr == "ended with 130\n"
