"""The memory of a process: what the kernel shows, and what getrusage says without it."""

import numpy as np
import pytest

from setmatch.files.process_memory import peak_bytes, resident_bytes


@pytest.mark.parametrize(
    ("status", "resident", "peak"),
    [
        ("VmPeak:\t 990 kB\nVmHWM:\t 900 kB\nVmRSS:\t 300 kB\n", 300 * 1024, 900 * 1024),
        ("Name:\tVmHWM: 1 kB\nVmRSS:\t 0 kB\nVmHWM:\t 4 kB\n", 0, 4 * 1024),
    ],
)
def test_the_kernel_says_the_memory_now_and_at_its_peak(tmp_path, status, resident, peak):
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "status").write_text(status)
    assert resident_bytes(tmp_path) == resident
    assert peak_bytes(tmp_path) == peak


def test_without_the_files_of_linux_the_peak_is_known_alone(tmp_path):
    block = np.ones(1 << 24, np.uint8)
    assert peak_bytes(tmp_path) > block.nbytes
    assert resident_bytes(tmp_path) is None
