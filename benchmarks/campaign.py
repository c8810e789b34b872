"""Run the tests of the promises of reliability, and count them in campaign.md.

    python benchmarks/campaign.py                # all promises: hours on two cores
    python benchmarks/campaign.py 1 2            # these promises; the other rows stay as they were
    python benchmarks/campaign.py 1 -- -n 2      # with options of pytest

Tests name their promise by `pytest.mark.promise(number)`. A test counts as one case, or as many as
`pytest.mark.promise(number, cases=count)` says.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
RESULTS, TABLE = Path(__file__).with_suffix(".json"), Path(__file__).with_suffix(".md")

# By number: the promise, and how many cases it asks for; None where it asks for behavior only.
PROMISES: dict[int, tuple[str, int | None]] = {
    1: ("a run killed by SIGKILL, alone or by torchrun, resumes to the same bits", 50),
    2: (
        "every truncation and bit flip of a checkpoint is noticed, and the one before is used",
        400,
    ),
    3: ("SIGTERM and Ctrl-C save at the next step, with the documented exit code", 40),
    4: ("a full disk or read-only folder is a clear error; checkpoints stay intact", None),
    5: ("a run resumed in mid-epoch sees the same images and augmentation", 20),
    6: ("a run resumes on another number of processes; changed settings are refused", None),
    7: ("if a process dies, the others leave within 60 s; torchrun restarts them", None),
    8: ("no loss, gradient or box that is not finite enters the weights", None),
    9: ("processes and accumulation change the weights by less than 1e-6", None),
    10: ("odd image files are read right or reported by name", 200),
    11: ("malformed annotations are repaired or refused, by name and place", 10_000),
    12: ("memory stays flat over epochs of a large data set", None),
    13: ("images with 0, 1, Q, Q+1 and 2,000 targets train", 5),
    14: ("metrics equal those of pycocotools", 1000),
    15: ("1, 2 and 3 processes give the same metrics", 300),
    16: ("batches give the detections of single images", 100),
    17: ("exported models give the boxes of the eager one", None),
    18: ("a malicious pickle is refused, and nothing runs", 20),
    19: ("the server withstands floods, bombs and malformed requests", None),
    20: ("every parser is fuzzed", None),
    21: ("a killed worker leaves no torn or doubled rows in offline shards", None),
}


class Tally:
    """A plugin of pytest that runs the tests of some promises and counts their cases."""

    def __init__(self, numbers: Sequence[int]) -> None:
        self.run, self.failed = dict.fromkeys(numbers, 0), dict.fromkeys(numbers, 0)

    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Keep the tests of the promises, and let their reports say whose they are."""
        kept = []
        for item in items:
            mark = item.get_closest_marker("promise")
            if mark is not None and mark.args[0] in self.run:
                item.user_properties.append(("promise", mark.args[0]))
                item.user_properties.append(("cases", mark.kwargs.get("cases", 1)))
                kept.append(item)
        items[:] = kept

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count a test: its call, or whatever failed before or after."""
        facts: dict[str, Any] = dict(report.user_properties)
        if report.when == "call":
            self.run[facts["promise"]] += facts["cases"]
        if report.failed:
            self.failed[facts["promise"]] += 1


def run(numbers: Sequence[int], options: Sequence[str]) -> dict[str, Any]:
    """Run the tests of the promises and return a row for each, by its number."""
    tally = Tally(numbers)
    arguments = [str(ROOT / "tests"), "-m", "promise", "-n", "0", "-p", "no:cacheprovider"]
    pytest.main([*arguments, *options], plugins=[tally])
    changed = _git(
        "status", "--porcelain", "--", ".", *(f":(exclude){p}" for p in (RESULTS, TABLE))
    )
    commit = _git("rev-parse", "--short", "HEAD") + ("+" if changed else "")
    date = datetime.now(UTC).date().isoformat()
    return {
        str(number): {
            "run": tally.run[number],
            "failed": tally.failed[number],
            "date": date,
            "commit": commit,
        }
        for number in numbers
    }


def table(results: dict[str, Any]) -> str:
    """Return campaign.md."""
    lines = [
        "# Campaign of the promises of reliability",
        "",
        "Written by `python benchmarks/campaign.py`, which runs the tests that are marked with a",
        "promise and counts their cases. A commit with a plus had changes that were not committed.",
        "",
        "| | promise | asked | run | failures | date | commit |",
        "|---|---|---|---|---|---|---|",
    ]
    for number, (words, asked) in PROMISES.items():
        row = results.get(str(number))
        count = "–" if asked is None else f"{asked:,}"
        if row is None or not row["run"]:
            lines.append(f"| {number} | {words} | {count} | none | – | – | – |")
        else:
            cells = (f"{row['run']:,}", row["failed"], row["date"], row["commit"])
            lines.append(f"| {number} | {words} | {count} | {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Run what the command line asks for; return 1 if a test failed or a promise has none."""
    own, _, options = " ".join(arguments).partition("--")
    numbers = [int(number) for number in own.split()] or list(PROMISES)
    rows = run(numbers, options.split())
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results |= rows
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    TABLE.write_text(table(results), encoding="utf-8")
    print(table({number: rows[number] for number in rows}))
    return int(any(row["failed"] or not row["run"] for row in rows.values()))


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
