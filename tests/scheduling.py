"""How tests are divided among the processes of pytest-xdist, so that what they share is made once.

The tests of a file go to one process, which makes the fixtures of their module once. The files that
read the exported models of `deploy/conftest.py` go to one process, too. The longest come first, so
that no process is left with a long one when the others have ended. (pytest-xdist's own groups have
no effect from pytest 9.2 on: they are written into an attribute that is no longer read.)
"""

from xdist.scheduler import LoadScopeScheduling

EXPORTS = "tests/deploy/"
APART = (
    "tests/deploy/server/",
    "tests/deploy/test_presets.py",
    "tests/deploy/formats/test_torch_package.py",
)
LONGEST = (EXPORTS, "tests/docs/", "tests/training/", "tests/ablation/", "tests/tuning/")


def part_of(nodeid: str) -> str:
    """Return the name of the tests that run in the process of this one: its file's, or a room's."""
    path = nodeid.split("::")[0]
    return EXPORTS if path.startswith(EXPORTS) and not path.startswith(APART) else path


def place_of(nodeid: str) -> int:
    """Return a sort key by which the longest parts come first."""
    part = part_of(nodeid)
    return next((i for i, start in enumerate(LONGEST) if part.startswith(start)), len(LONGEST))


class ByPart(LoadScopeScheduling):
    """Hands out whole parts, in the order in which they are collected."""

    def _split_scope(self, nodeid: str) -> str:
        return part_of(nodeid)
