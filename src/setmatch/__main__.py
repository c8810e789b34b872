"""`python -m setmatch` is the command line, also under torchrun; `setmatch` runs the same."""

import sys

from setmatch.interruption import Interruption


def run() -> int:
    """Run the command line of this process, and return its exit code, also after a signal."""
    with Interruption() as interruption:
        from setmatch.cli import main  # takes a moment, which a signal may interrupt, too

        return interruption.finish(main())
    return interruption.code


if __name__ == "__main__":
    sys.exit(run())
