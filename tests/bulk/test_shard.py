"""Which images a process takes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from setmatch.bulk.shard import Shard
from setmatch.errors import ConfigError


@given(st.integers(0, 60), st.integers(1, 70))
def test_shards_divide_the_images_evenly(images: int, count: int):
    """Each image is in one shard, in order, and sizes differ by one at most."""
    names = [str(number) for number in range(images)]
    shares = [Shard(number, count).of(names) for number in range(1, count + 1)]
    assert sorted((name for share in shares for name in share), key=int) == names
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_shard_is_written_as_number_and_count():
    assert Shard.parse("3/16", {}) == Shard(3, 16)
    assert Shard(3, 16).name == "03-of-16"


@pytest.mark.parametrize(
    "text", ["0/16", "17/16", "1/0", "3", "3/", "/3", "-1/4", "3/16/2", "a/b", "", "1.0/2", "٣/٤"]
)
def test_no_shard(text: str):
    with pytest.raises(ConfigError, match=r"^shard "):
        Shard.parse(text, {})


def slurm(task: int, first: int, count: int, step: int | None = None) -> dict[str, str]:
    steps = {} if step is None else {"SLURM_ARRAY_TASK_STEP": str(step)}
    return steps | {
        "SLURM_ARRAY_TASK_ID": str(task),
        "SLURM_ARRAY_TASK_MIN": str(first),
        "SLURM_ARRAY_TASK_COUNT": str(count),
    }


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"RANK": "0", "WORLD_SIZE": "2"}, Shard(1, 2)),
        ({"RANK": "1", "WORLD_SIZE": "2"}, Shard(2, 2)),
        (slurm(1, 1, 16), Shard(1, 16)),
        (slurm(15, 0, 16), Shard(16, 16)),
        (slurm(9, 1, 5, step=4), Shard(3, 5)),
        (slurm(2, 1, 2) | {"RANK": "1", "WORLD_SIZE": "4"}, Shard(6, 8)),
    ],
)
def test_auto_is_the_share_of_this_process(environment: dict[str, str], expected: Shard):
    assert Shard.parse("auto", environment) == expected


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "no torchrun"),
        ({"RANK": "0"}, "WORLD_SIZE= is not an integer"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK=2 is not below"),
        ({"RANK": "x", "WORLD_SIZE": "2"}, "RANK=x"),
        ({"SLURM_ARRAY_TASK_ID": "1"}, "SLURM_ARRAY_TASK_MIN"),
        (slurm(9, 1, 3), "an array without gaps"),
        (slurm(2, 1, 5, step=4), "an array without gaps"),
    ],
)
def test_auto_without_a_number_is_refused(environment: dict[str, str], message: str):
    with pytest.raises(ConfigError, match=message):
        Shard.parse("auto", environment)
