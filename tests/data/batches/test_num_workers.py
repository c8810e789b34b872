"""The number of workers follows the machine, unless it is set."""

import inspect
import os

import pytest
import torch

from setmatch.cli import app
from setmatch.data.batches.num_workers import workers_for
from setmatch.errors import ConfigError
from setmatch.evaluation.compare.compare import compare
from setmatch.evaluation.evaluate import evaluate
from setmatch.explanation.queries.usage import study_queries


@pytest.mark.parametrize(
    ("cores", "world", "gpu", "workers"),
    [
        (2, 1, False, 0),  # a worker would take a core from training
        (8, 1, False, 2),
        (8, 4, False, 0),
        (2, 1, True, 1),
        (16, 2, True, 7),
        (1, 1, True, 0),
        (96, 1, True, 8),
    ],
)
def test_auto_leaves_most_cpu_cores_to_training(monkeypatch, cores, world, gpu, workers):
    """On a CPU one core in four reads; beside a GPU all but one, up to eight."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert workers_for("auto", world) == workers


def test_a_number_is_used_as_it_is():
    assert workers_for(0, 1) == 0
    assert workers_for(100, 8) == 100


def test_a_negative_number_is_refused():
    with pytest.raises(ConfigError, match="workers = -1"):
        workers_for(-1, 1)


@pytest.mark.parametrize(
    "reader",
    [evaluate, compare, study_queries]
    + [app[verb].default_command for verb in ("evaluate", "compare", "queries")],
)
def test_all_commands_default_to_auto(reader):
    assert inspect.signature(reader).parameters["workers"].default == "auto"
