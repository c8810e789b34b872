"""Processes and devices of a run. No other module uses torch.distributed.

`torchrun` starts the processes and sets RANK, LOCAL_RANK and WORLD_SIZE. Without it a run is a
single process, and all exchanges return at once.
"""

import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from setmatch.errors import ConfigError, SetmatchError, TrainingError, counted

T = TypeVar("T")

# Gloo detects a dead process at once, by its closed sockets, so its timeout may be long: the others
# wait while the first process writes a checkpoint. NCCL detects it by its timeout, which can be
# short: NCCL is used only after all hosts have met in the same step. During start-up, torchrun's
# agent watches the processes; without it the timeout alone does, and torch waits up to twice as
# long.
HOST_TIMEOUT = timedelta(minutes=30)
DEVICE_TIMEOUT = timedelta(seconds=50)
AGENT_TIMEOUT = timedelta(minutes=5)
NO_AGENT_TIMEOUT = timedelta(seconds=25)
PROCESS_VARIABLES = ("RANK", "WORLD_SIZE")
# Do not broadcast the first process' buffers; torch 2.14 renamed the parameter.
_SIGNATURE = inspect.signature(DistributedDataParallel).parameters
_NEW, _OLD = "forward_sync_buffers", "broadcast_buffers"
KEEP_BUFFERS: dict[str, Any] = {_NEW if _NEW in _SIGNATURE else _OLD: False}
LOST_PEER_SIGNS = ("gloo", "nccl", "Connection closed", "Connection reset", "peer", "Timed out")


@dataclass(frozen=True)
class Distributed:
    """One of `world` processes, and its device."""

    device: torch.device
    rank: int = 0
    world: int = 1
    host: dist.ProcessGroup | None = None  # a gloo group beside NCCL; None: the default group

    @property
    def is_first(self) -> bool:
        """True in the process that writes files and prints."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """Return the sum of `tensor` over all processes."""
        if self.world == 1:
            return tensor
        total = tensor.clone()
        dist.all_reduce(total, group=self.host if total.device.type == "cpu" else None)
        return total

    def gather(self, value: T) -> list[T]:
        """Return the value of every process, by rank."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value, group=self.host)
        return values

    def broadcast(self, value: T) -> T:
        """Return the first process' value."""
        if self.world == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0, group=self.host)
        return values[0]

    def first(self, work: Callable[[], T]) -> T:
        """Call `work` in the first process and return its result in all processes.

        A SetmatchError raised by `work` is raised in all processes.
        """
        outcome: T | SetmatchError | None = None
        if self.is_first:
            try:
                outcome = work()
            except SetmatchError as error:
                outcome = error
        outcome = self.broadcast(outcome)
        if isinstance(outcome, SetmatchError):
            raise outcome
        return cast("T", outcome)

    def wrap(self, model: nn.Module) -> nn.Module:
        """Wrap `model` to average gradients over the processes in the backward pass."""
        if self.world == 1:
            return model
        return DistributedDataParallel(
            model,
            device_ids=[self.device] if self.device.type == "cuda" else None,
            gradient_as_bucket_view=True,
            **KEEP_BUFFERS,  # batch_norm_stats.py exchanges them
        )


def no_sync(model: nn.Module, skip: bool) -> AbstractContextManager[None]:
    """Return a context that skips the exchange of gradients if `skip`."""
    if skip and isinstance(model, DistributedDataParallel):
        context: AbstractContextManager[None] = model.no_sync()
        return context
    return nullcontext()


@contextmanager
def explain_lost_processes() -> Iterator[None]:
    """Turn a failed exchange into a TrainingError that says another process has ended."""
    try:
        yield
    except RuntimeError as error:
        if not (dist.is_initialized() and any(sign in str(error) for sign in LOST_PEER_SIGNS)):
            raise
        raise TrainingError(
            f"process {dist.get_rank()} of {dist.get_world_size()}: another process of this run "
            "ended or does not respond (see its own messages); start the run again with --resume"
        ) from error


@contextmanager
def init_distributed(device: str = "auto") -> Iterator[Distributed]:
    """Join the processes that torchrun started, if any, and leave them at the end.

    `device` is "auto" (a GPU if there is one), "cpu", "cuda" or "cuda:1". Raises ConfigError for a
    missing device or incomplete environment variables, and TrainingError inside the context if
    another process has ended.
    """
    rank, world = _environment("RANK", 0), _environment("WORLD_SIZE", 1)
    place = _device(device, _environment("LOCAL_RANK", 0))
    if place.type == "cuda":
        torch.cuda.set_device(place)
    if world == 1:
        yield Distributed(place)
        return
    host = _join(place, rank, world)
    with explain_lost_processes():
        yield Distributed(place, rank, world, host)
    # Not after an error: with a lost process this could wait forever.
    dist.destroy_process_group()


def require_single_process(reason: str) -> None:
    """Raise ConfigError with the reason if torchrun started this process beside others."""
    world = _environment("WORLD_SIZE", 1)
    if world > 1:
        raise ConfigError(f"{reason}: start a single process, not {world}")


@contextmanager
def single_process() -> Iterator[None]:
    """Let the code inside run as a single process, even under torchrun.

    Each process keeps the device given by torchrun's LOCAL_RANK.
    """
    removed = {name: os.environ.pop(name) for name in PROCESS_VARIABLES if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(removed)


def _join(place: torch.device, rank: int, world: int) -> dist.ProcessGroup | None:
    """Join the other processes before a timeout. With NCCL, return a gloo group beside it."""
    has_agent = "TORCHELASTIC_RUN_ID" in os.environ
    timeout = AGENT_TIMEOUT if has_agent else NO_AGENT_TIMEOUT
    # Where an agent keeps the store, it runs before the processes do: without it nobody comes.
    has_store = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    host: Any = None
    try:
        # torchrun's agent may keep one store over restarts, with addresses of dead processes, so
        # each attempt uses a prefix of its own.
        reach = NO_AGENT_TIMEOUT if has_store else timeout
        store, _, _ = next(rendezvous("env://", timeout=reach))
        store.set_timeout(timeout)
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        gpu = place.type == "cuda"
        dist.init_process_group(
            "nccl" if gpu else "gloo",
            store=PrefixStore(f"attempt_{attempt}", store),
            rank=rank,
            world_size=world,
            timeout=timeout,
            device_id=place if gpu else None,
        )
        if gpu:
            host = dist.new_group(backend="gloo", timeout=timeout)
    except (RuntimeError, ValueError) as error:
        raise TrainingError(
            f"process {rank} of {world}: the processes did not connect in time "
            f"({' '.join(str(error).split())[:200]}); start all of them with torchrun"
        ) from error
    # Public only in the newest torch.
    set_timeout = getattr(dist, "set_timeout", None) or dist.distributed_c10d._set_pg_timeout
    if host is not None:
        set_timeout(DEVICE_TIMEOUT, None)
    set_timeout(HOST_TIMEOUT, host)
    return host if isinstance(host, dist.ProcessGroup) else None


def choose_precision(setting: str, device: torch.device) -> torch.dtype:
    """Return the dtype of the forward pass; "auto" is bfloat16 on hardware that supports it.

    `setting` is "auto", "float32" or "bfloat16". There is no float16: its range is too small for
    costs and losses without a gradient scaler.
    """
    if setting != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[setting]
    if device.type == "cuda":
        supported = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        supported = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if supported else torch.float32


def _environment(name: str, default: int) -> int:
    text = os.environ.get(name)
    if text is None:
        if name == "RANK" and int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise ConfigError(
                "WORLD_SIZE is set but RANK is not; start the processes with torchrun"
            )
        return default
    try:
        return int(text)
    except ValueError:
        raise ConfigError(
            f"environment: {name}={text} is not an integer; start the processes with torchrun"
        ) from None


def _device(name: str, local_rank: int) -> torch.device:
    count = torch.cuda.device_count()
    if name == "auto":
        name = "cuda" if count else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device {name}: unknown; use auto, cpu, cuda or cuda:1")
    if device.type == "cpu":
        return device
    index = local_rank if device.index is None else device.index
    if index >= count:
        found = f"only {counted(count, 'GPU')} found, from cuda:0 on" if count else "no GPU found"
        raise ConfigError(f"device {name}: {found}; use --device cpu, or fewer processes")
    return torch.device("cuda", index)
