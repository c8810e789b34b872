"""The share of the images that one of several processes takes."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from setmatch.errors import ConfigError

_TORCHRUN = ("RANK", "WORLD_SIZE")
_SLURM = ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_COUNT")


@dataclass(frozen=True)
class Shard:
    """Share `number` of `count`, from 1 on: every `count`th image."""

    number: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str, environment: Mapping[str, str] = os.environ) -> "Shard":
        """Return the share that "3/16" names, or "auto": the one of this process.

        torchrun and arrays of SLURM number processes; torchrun inside an array divides its share.
        Raises ConfigError for any other text, and for "auto" without these.
        """
        if text == "auto":
            return _of_environment(environment)
        match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text.strip())
        if match is None:
            raise ConfigError(f"shard {text}: write the number and the count, as 3/16, or auto")
        number, count = int(match[1]), int(match[2])
        if not 1 <= number <= count:
            advice = f"the shards of {count} are 1/{count} to {count}/{count}"
            raise ConfigError(f"shard {text}: {advice if count else 'there is at least 1 shard'}")
        return cls(number, count)

    def of(self, images: Sequence[str]) -> Sequence[str]:
        """Return the images of this share."""
        return images[self.number - 1 :: self.count]

    @property
    def name(self) -> str:
        """A name that sorts by number, such as 03-of-16."""
        return f"{self.number:0{len(str(self.count))}}-of-{self.count}"


def _of_environment(environment: Mapping[str, str]) -> Shard:
    number, count = 0, 1  # number from 0 on, as both programs count
    has_array, has_torchrun = _SLURM[0] in environment, _TORCHRUN[0] in environment
    if not (has_array or has_torchrun):
        raise ConfigError(
            "shard auto: no torchrun (RANK) and no array of SLURM (SLURM_ARRAY_TASK_ID) started "
            "this process; name the shard, as 3/16"
        )
    if has_array:
        task, first, count = (_integer(environment, name) for name in _SLURM)
        step = _integer(environment, "SLURM_ARRAY_TASK_STEP", 1)
        number, left = divmod(task - first, max(step, 1))
        if left or not 0 <= number < count:
            raise ConfigError(
                f"shard auto: {_SLURM[0]}={task} is not one of {count} tasks from {first} on; use "
                "an array without gaps, such as --array=1-16"
            )
    if has_torchrun:
        rank, world = (_integer(environment, name) for name in _TORCHRUN)
        number, count = number * world + rank, count * world
        if not 0 <= rank < world:
            raise ConfigError(f"shard auto: RANK={rank} is not below WORLD_SIZE={world}")
    return Shard(number + 1, count)


def _integer(environment: Mapping[str, str], name: str, otherwise: int | None = None) -> int:
    text = environment.get(name)
    if text is None and otherwise is not None:
        return otherwise
    try:
        return int(text or "")
    except ValueError:
        raise ConfigError(
            f"shard auto: {name}={text or ''} is not an integer; name the shard, as 3/16"
        ) from None
