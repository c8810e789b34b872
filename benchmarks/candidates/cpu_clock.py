"""Run a program whose clocks count CPU seconds of its process.

On a shared machine, a budget of wall-clock time depends on the other load. With one thread and no
loader processes, both clocks agree on an idle machine.

    python cpu_clock.py PROGRAM [ARGUMENTS]        python cpu_clock.py -m MODULE [ARGUMENTS]
"""

import runpy
import sys
import time
from pathlib import Path


def main() -> None:
    start_s, cpu_time = time.time(), time.process_time
    time.time = lambda: start_s + cpu_time()
    time.monotonic = time.perf_counter = cpu_time
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
