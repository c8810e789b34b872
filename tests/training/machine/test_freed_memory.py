"""Freed memory: kept for the next step, and given back in the end."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from setmatch.training.machine.freed_memory import keep_freed_memory

PAGE = resource.getpagesize()
BLOCK, BLOCKS = 1 << 24, 16  # 256 MB: more than is kept by default, far less than is kept here

COUNT_PAGE_FAULTS = f"""
import resource
from setmatch.training.machine.freed_memory import keep_freed_memory

def page_faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [b"1" * {BLOCK} for _ in range({BLOCKS})]
    del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

page_faults()
print(page_faults())
with keep_freed_memory():
    page_faults()
    print(page_faults())
"""

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="other systems have their own allocators, which are not touched"
)


def _use_and_free() -> None:
    """Write to 256 MB, as a step does to its feature maps, and free them."""
    blocks = [torch.empty(BLOCK, dtype=torch.uint8).fill_(1) for _ in range(BLOCKS)]
    assert len(blocks) == BLOCKS


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def test_memory_that_was_freed_is_used_again_without_page_faults():
    """In a process of its own, whose heap has no other blocks above those that are freed."""
    printed = subprocess.run(
        [sys.executable, "-c", COUNT_PAGE_FAULTS], capture_output=True, text=True, check=True
    ).stdout
    by_default, kept = map(int, printed.split())
    assert by_default > BLOCKS * BLOCK / PAGE / 2
    assert kept < by_default / 10


def test_memory_is_returned_at_the_end():
    """What was freed inside does not stay with the process."""
    with keep_freed_memory():
        _use_and_free()
        inside = _resident_bytes()
    assert inside - _resident_bytes() > BLOCKS * BLOCK / 2


def test_errors_pass_and_memory_is_returned():
    """An interrupted training run gives its memory back too."""
    inside: list[int] = []

    def interrupted() -> None:
        with keep_freed_memory():
            _use_and_free()
            inside.append(_resident_bytes())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert inside[0] - _resident_bytes() > BLOCKS * BLOCK / 2
