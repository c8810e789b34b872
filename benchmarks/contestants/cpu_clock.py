"""Run a program whose clocks count the CPU seconds of its own process.

On a machine that others use too, a budget by the wall's clock measures the others. With one thread
and no other process that reads pictures, both clocks agree on an idle machine.

    python cpu_clock.py PROGRAM [ARGUMENTS]        python cpu_clock.py -m MODULE [ARGUMENTS]
"""

import runpy
import sys
import time
from pathlib import Path


def main() -> None:
    began, used = time.time(), time.process_time
    time.time = lambda: began + used()
    time.monotonic = time.perf_counter = used
    _, *arguments = sys.argv
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments
        sys.path[0] = str(Path(sys.argv[0]).resolve().parent)
        runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
