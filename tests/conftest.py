"""What holds for every test: shapes are checked, one thread, no network; a browser on request."""

import gc
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")

sys.path.insert(0, str(Path(__file__).parent))

# Libraries and tests are imported for good: to search millions of objects for garbage meanwhile
# would take a third of the time of collecting, and each full search later half a second.
gc.disable()

# First, since the hook makes Python compile whatever a checked module is the first to import.
import scipy.optimize  # noqa: E402, F401
import torchvision  # noqa: E402, F401

from checked_types import Checks, check_shapes, unchecked  # noqa: E402

check_shapes()

import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import settings  # noqa: E402

from browser import OpenPage, chromium, opened_pages  # noqa: E402
from quick_weights import repeat_random_numbers  # noqa: E402
from scheduling import ByPart, place_of  # noqa: E402
from thorough import leave_out_combinations  # noqa: E402

torch.set_num_threads(1)
repeat_random_numbers()

# No test cuts the power, so that none has to wait until files are on the disk.
os.fsync = lambda _: None

WITHOUT_SHAPES = {"ablation", "cli", "demo", "seams", "sharing", "tuning"}

# Nothing of what the user of this machine has, or has seen, changes a test.
CACHE = tempfile.TemporaryDirectory(prefix="setmatch_cache_")
os.environ.setdefault("SETMATCH_CACHE", CACHE.name)

# The first example pays for imports and caches, so that a deadline would only measure the machine.
settings.register_profile("setmatch", deadline=None, max_examples=20)
# Of .ci/run: the same examples each time, so that a find belongs to a change of the code.
settings.register_profile("thorough", deadline=None, max_examples=200, derandomize=True)
settings.register_profile("fuzz", deadline=None, max_examples=600, derandomize=True)
settings.load_profile("setmatch")


def pytest_configure(config: pytest.Config) -> None:
    """Check every call where properties get more examples."""
    if config.getoption("hypothesis_profile", None):
        Checks.then_each = 1


def pytest_runtest_logstart() -> None:
    """Count the calls of each function from the start of each test."""
    Checks.test += 1


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Search for garbage from now on, among what the tests themselves make."""
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(tryfirst=True)  # before cases are left out by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest tests first."""
    leave_out_combinations(items)
    items.sort(key=lambda item: place_of(item.nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Divide the tests among processes by what they share."""
    config.option.loadscopereorder = False  # that would put the part of most tests first
    return ByPart(config, log)


@pytest.fixture(autouse=True, scope="module")
def unchecked_rooms(request: pytest.FixtureRequest) -> Iterator[None]:
    """Check no shapes in rooms that write none and run whole commands: others test what they call.

    It takes a fifth of a training's time.
    """
    room = request.path.relative_to(Path(__file__).parent).parts[0]
    with unchecked() if room in WITHOUT_SHAPES else nullcontext():
        yield


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless browser; for a module only, because beside it no other event loop can run."""
    with chromium() as started:
        yield started


@pytest.fixture
def open_page(browser: Any) -> Iterator[OpenPage]:
    """Opens HTML files, `open_page(path, width=390, height=844)`, and fails if one misbehaves."""
    with opened_pages(browser) as open_page:
        yield open_page
