"""How much memory a process may use: the least limit around it, in both versions of the files."""

import os

import pytest

from setmatch.training.machine.memory import growth_during, memory_limit

TOTAL = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
HALF, QUARTER = TOTAL // 2, TOTAL // 4
NO_LIMIT = 9223372036854771712  # as version 1 writes it


def system(folder, groups, limits):
    """Write what the kernel shows: the groups of a process, and limits by file."""
    (folder / "proc" / "self").mkdir(parents=True)
    (folder / "proc" / "self" / "cgroup").write_text(groups)
    for name, limit in limits.items():
        path = folder / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{limit}\n")
    return folder / "proc", folder / "cgroup"


@pytest.mark.parametrize(
    ("groups", "limits", "expected"),
    [
        ("0::/a/b\n", {"a/b/memory.max": HALF}, HALF),
        ("0::/a/b\n", {"a/b/memory.max": "max", "a/memory.max": QUARTER}, QUARTER),
        ("0::/a/b\n", {"a/b/memory.max": HALF, "a/memory.max": QUARTER}, QUARTER),
        ("0::/\n", {"memory.max": HALF}, HALF),
        ("0::/a/b\n", {"memory.max": HALF}, HALF),  # the path is one of the host
        ("0::/a/b\n", {"a/b/memory.max": "max"}, TOTAL),
        ("0::/a\n", {"a/memory.max": 4 * TOTAL}, TOTAL),
        ("0::/a\n", {}, TOTAL),
        ("0::/a\n", {"c/memory.max": QUARTER, "a/memory.max": "garbage"}, TOTAL),
        (
            "9:name=systemd:/\n4:memory:/a\n0::/\n",
            {"memory/a/memory.limit_in_bytes": QUARTER},
            QUARTER,
        ),
        (
            "4:cpu,memory:/a\n",
            {
                "memory/a/memory.limit_in_bytes": NO_LIMIT,
                "memory/memory.limit_in_bytes": HALF,
            },
            HALF,
        ),
        ("3:cpu:/a\n", {"memory/a/memory.limit_in_bytes": QUARTER}, TOTAL),
    ],
)
def test_the_least_limit_around_a_process_counts(tmp_path, groups, limits, expected):
    assert memory_limit(*system(tmp_path, groups, limits)) == expected


def test_a_system_without_these_files_has_no_known_limit(tmp_path):
    assert memory_limit(tmp_path, tmp_path) is None


def test_growth_is_the_peak_above_what_there_was(tmp_path):
    proc, _ = system(tmp_path, "", {})
    (proc / "self" / "status").write_text("VmHWM:\t 900 kB\nVmRSS:\t 300 kB\n")
    (proc / "self" / "clear_refs").write_text("")
    done = []
    assert growth_during(lambda: done.append(1), proc) == 600 * 1024
    assert done == [1]
    assert (proc / "self" / "clear_refs").read_text() == "5"


def test_work_is_done_where_growth_is_not_known(tmp_path):
    done = []
    assert growth_during(lambda: done.append(1), tmp_path) is None
    assert done == [1]
