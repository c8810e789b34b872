"""How many worker processes read images."""

import os
from typing import Literal

import torch

from setmatch.errors import ConfigError

Workers = int | Literal["auto"]

MAX_AUTO_WORKERS = 8  # more did not speed up any of the recipes on one GPU


def workers_for(setting: Workers, world: int) -> int:
    """Return the number of workers for each of the `world` processes of a run.

    A number is returned as it is; raises ConfigError if it is negative. "auto" depends on the
    device. With a GPU it is every core of the process but one. On a CPU, workers compete with
    training for the cores: with two threads of one core, training on 160-pixel scenes processed 93
    images a second without a worker and 73 with one. There it is one in four cores, and none below
    four cores.
    """
    if setting != "auto":
        if setting < 0:
            raise ConfigError(f'workers = {setting}: set a number of processes from 0, or "auto"')
        return setting
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    own = (cores or 1) // world
    wanted = own - 1 if torch.cuda.is_available() else own // 4
    return max(0, min(wanted, MAX_AUTO_WORKERS))
