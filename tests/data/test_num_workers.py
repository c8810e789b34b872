"""How many processes read images follows the machine, unless somebody says a number."""

import inspect
import os

import pytest
import torch

from setmatch.cli import app
from setmatch.data.num_workers import workers_for
from setmatch.errors import ConfigError
from setmatch.evaluation.compare.compare import compare
from setmatch.evaluation.evaluate import evaluate
from setmatch.explanation.query_usage import study_queries


@pytest.mark.parametrize(
    ("cores", "world", "gpu", "workers"),
    [
        (2, 1, False, 0),  # whoever reads would take a core from those who compute
        (8, 1, False, 2),
        (8, 4, False, 0),
        (2, 1, True, 1),
        (16, 2, True, 7),
        (1, 1, True, 0),
        (96, 1, True, 8),
    ],
)
def test_auto_leaves_the_cores_to_those_who_compute(monkeypatch, cores, world, gpu, workers):
    """On a CPU a core in four reads; beside a GPU all but one, up to eight."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert workers_for("auto", world) == workers


def test_a_number_stays_what_it_is():
    """Also one that no machine has cores for."""
    assert workers_for(0, 1) == 0
    assert workers_for(100, 8) == 100


def test_less_than_none_is_refused():
    """A negative number is named, and not left to PyTorch."""
    with pytest.raises(ConfigError, match="workers = -1"):
        workers_for(-1, 1)


@pytest.mark.parametrize(
    "reader",
    [evaluate, compare, study_queries]
    + [app[verb].default_command for verb in ("evaluate", "compare", "queries")],
)
def test_one_rule_for_whoever_reads_a_data_set(reader):
    """Measuring, comparing and looking into a model follow the machine, as training does."""
    assert inspect.signature(reader).parameters["workers"].default == "auto"
