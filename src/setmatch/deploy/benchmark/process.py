"""A process that runs one model with one engine, seen from the process that asks it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from setmatch.errors import ConfigError


class Worker:
    """Asks a process of `worker.py`, which computes with `threads` threads.

    Raises ConfigError, with its message, for a request that it cannot fulfill.
    """

    def __init__(self, threads: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "setmatch.deploy.benchmark.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            text=True,
            encoding="utf-8",
            process_group=0,  # Ctrl-C is for the process that asks, which ends this one
        )

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return the response to a request."""
        requests, responses = self._process.stdin, self._process.stdout
        assert requests is not None, "the process has pipes"
        assert responses is not None, "the process has pipes"
        line = ""
        try:
            requests.write(json.dumps(request) + "\n")
            requests.flush()
            line = responses.readline()
        except BrokenPipeError:
            pass
        if not line:
            code = self._process.wait()
            raise ConfigError(f"its process ended with code {code}; it may lack memory")
        response: dict[str, Any] = json.loads(line)
        if "error" in response:
            raise ConfigError(response["error"])
        return response

    def end(self) -> None:
        """End the process, which may be computing."""
        self._process.kill()
        self._process.communicate()


@contextmanager
def workers(threads: list[int]) -> Iterator[list[Worker]]:
    """Start a worker for each number of threads, and end all of them at last."""
    started: list[Worker] = []
    try:
        started.extend(map(Worker, threads))  # one by one: those before a failure are ended, too
        yield started
    finally:
        for each in started:
            each.end()
