"""The processes of a run and the device of each: the only file that talks to torch.distributed.

`torchrun` starts the processes and sets RANK, LOCAL_RANK and WORLD_SIZE; without it a run is one
process, and everything here costs nothing.
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

from setmatch.errors import ConfigError, SetmatchError, TrainingError

T = TypeVar("T")

# A process that dies closes its sockets, which gloo notices at once; so hosts may wait long, as
# when the first process writes a checkpoint. NCCL notices only by the clock, but is entered only
# after all hosts have met in the same step, so that a short time is enough. Until they have met for
# the first time, torchrun's agent looks after them; without it nobody does but the clock, of which
# torch waits up to twice.
HOST_PATIENCE = timedelta(minutes=30)
DEVICE_PATIENCE = timedelta(seconds=50)
ATTENDED_PATIENCE = timedelta(minutes=5)
UNATTENDED_PATIENCE = timedelta(seconds=25)
JOINING = ("RANK", "WORLD_SIZE")  # what makes a process one of several
# A wrapped model is not to take over the first process' buffers; torch 2.14 calls that anew.
_SIGNATURE = inspect.signature(DistributedDataParallel).parameters
_NEW, _OLD = "forward_sync_buffers", "broadcast_buffers"
OWN_BUFFERS: dict[str, Any] = {_NEW if _NEW in _SIGNATURE else _OLD: False}
LOST_PEER = ("gloo", "nccl", "Connection closed", "Connection reset", "peer", "Timed out")


@dataclass(frozen=True)
class Distributed:
    """One process among `world` processes, and the device it computes on."""

    device: torch.device
    rank: int = 0
    world: int = 1
    host: dist.ProcessGroup | None = None  # a gloo group beside NCCL; None: the default group

    @property
    def is_first(self) -> bool:
        """True in the one process that writes files and speaks."""
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
        """Let the first process do `work` while the others wait; its result is everybody's.

        So is its failure: raises in every process the SetmatchError that `work` raises in the
        first.
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
        """Return `model`, its gradients averaged over the processes at the end of a backward."""
        if self.world == 1:
            return model
        return DistributedDataParallel(
            model,
            device_ids=[self.device] if self.device.type == "cuda" else None,
            gradient_as_bucket_view=True,
            **OWN_BUFFERS,  # those that change are exchanged in norms.py
        )


def no_sync(model: nn.Module, skip: bool) -> AbstractContextManager[None]:
    """Return a context in which a backward keeps its gradients to itself, if `skip`."""
    if skip and isinstance(model, DistributedDataParallel):
        context: AbstractContextManager[None] = model.no_sync()
        return context
    return nullcontext()


@contextmanager
def lost_peers_named() -> Iterator[None]:
    """Turn a failed exchange into a TrainingError that says another process has ended."""
    try:
        yield
    except RuntimeError as error:
        if not (dist.is_initialized() and any(sign in str(error) for sign in LOST_PEER)):
            raise
        raise TrainingError(
            f"process {dist.get_rank()} of {dist.get_world_size()}: another process of this run "
            "ended or does not answer (its own messages say why); start the run again with --resume"
        ) from error


@contextmanager
def init_distributed(device: str = "auto") -> Iterator[Distributed]:
    """Join the processes that torchrun started, or be the only one; leave them at the end.

    `device` is "auto" (a GPU if there is one), "cpu", "cuda" or "cuda:1".
    Raises ConfigError for a device that is not there or an environment that is incomplete, and
    TrainingError when another process has ended, whatever this one was about.
    """
    rank, world = _environment("RANK", 0), _environment("WORLD_SIZE", 1)
    place = _device(device, _environment("LOCAL_RANK", 0))
    if place.type == "cuda":
        torch.cuda.set_device(place)
    if world == 1:
        yield Distributed(place)
        return
    host = _meet(place, rank, world)
    with lost_peers_named():
        yield Distributed(place, rank, world, host)
    # Only here, not after an error: saying goodbye to a lost process could wait for ever.
    dist.destroy_process_group()


@contextmanager
def alone() -> Iterator[None]:
    """Let what runs inside be a run of one process, whatever torchrun has started beside it.

    Each process keeps the device that torchrun's LOCAL_RANK gives it.
    """
    kept = {name: os.environ.pop(name) for name in JOINING if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)


def _meet(place: torch.device, rank: int, world: int) -> dist.ProcessGroup | None:
    """Join the other processes, soon or not at all; return the hosts' group beside NCCL's."""
    attended = "TORCHELASTIC_RUN_ID" in os.environ
    patience = ATTENDED_PATIENCE if attended else UNATTENDED_PATIENCE
    host: Any = None
    try:
        # torchrun's agent may keep one store over restarts, with addresses of processes that are
        # dead: each attempt looks under a prefix of its own.
        store, _, _ = next(rendezvous("env://", timeout=patience))
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        gpu = place.type == "cuda"
        dist.init_process_group(
            "nccl" if gpu else "gloo",
            store=PrefixStore(f"attempt_{attempt}", store),
            rank=rank,
            world_size=world,
            timeout=patience,
            device_id=place if gpu else None,
        )
        if gpu:
            host = dist.new_group(backend="gloo", timeout=patience)
    except (RuntimeError, ValueError) as error:
        raise TrainingError(
            f"process {rank} of {world}: the processes did not come together in "
            f"{patience.seconds} s ({' '.join(str(error).split())[:200]}); start all of them by "
            "torchrun"
        ) from error
    # A public name only in the newest torch.
    set_timeout = getattr(dist, "set_timeout", None) or dist.distributed_c10d._set_pg_timeout
    if host is not None:
        set_timeout(DEVICE_PATIENCE, None)
    set_timeout(HOST_PATIENCE, host)
    return host if isinstance(host, dist.ProcessGroup) else None


def choose_precision(setting: str, device: torch.device) -> torch.dtype:
    """Return the type the model computes in: bfloat16 where the chip has it in hardware.

    `setting` is "auto", "float32" or "bfloat16". float16 is never used: its range is too small for
    costs and losses without a scaler.
    """
    if setting != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[setting]
    if device.type == "cuda":
        able = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        able = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if able else torch.float32


def _environment(name: str, default: int) -> int:
    text = os.environ.get(name)
    if text is None:
        if name == "RANK" and int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise ConfigError("WORLD_SIZE is set but RANK is not: start the processes by torchrun")
        return default
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f"environment: {name}={text} is no number; torchrun sets it") from None


def _device(name: str, local_rank: int) -> torch.device:
    there = torch.cuda.device_count()
    if name == "auto":
        name = "cuda" if there else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device {name}: it can be auto, cpu, cuda or cuda:1")
    if device.type == "cpu":
        return device
    index = local_rank if device.index is None else device.index
    if index >= there:
        found = f"this machine has {there} (cuda:0 is the first)" if there else "no GPU was found"
        raise ConfigError(f"device {name}: {found}; use --device cpu, or fewer processes")
    return torch.device("cuda", index)
