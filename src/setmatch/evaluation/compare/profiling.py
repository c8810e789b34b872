"""What an answer costs: parameters, multiply-adds, time side by side, memory."""

import statistics
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from setmatch.inference.engines.eager import infer
from setmatch.models.detector import Detector
from setmatch.structures.batch import Batch

WARM_UP = 1  # rounds that do not count
CORNERS = 4  # of a cell, which bilinear sampling mixes


@dataclass(frozen=True)
class Cost:
    """What it takes to answer: one picture for all but `images_per_s`, which is in batches.

    `gmacs` are 10⁹ multiply-adds of convolutions, matrix products, attention and sampling, a mean
    over the pictures; elementwise arithmetic, norms and the suppression of doubles are not counted.
    `speedup` is the first contestant's latency over this one's, the median over rounds.
    `peak_bytes` holds the weights and what was alive at once; on a CPU without the scratch space
    that kernels take for themselves.
    """

    parameters: int
    gmacs: float
    latency_s: float
    images_per_s: float
    speedup: float
    peak_bytes: int


def costs(
    models: Sequence[Detector], pictures: Sequence[Sequence[Batch]], batch_size: int, rounds: int
) -> list[Cost]:
    """Measure models on pictures, of which each model has its own preparation, one a batch.

    Models take turns, a round after the other, so that whatever else the machine does hits all
    alike; times are medians over rounds. Reading and resizing pictures is not part of it.
    """
    single = [
        [partial(_answer, model, batch) for batch in batches]
        for model, batches in zip(models, pictures, strict=True)
    ]
    together = [
        [partial(_answer, model, _repeated(batch, batch_size)) for batch in batches]
        for model, batches in zip(models, pictures, strict=True)
    ]
    alone_s = time_interleaved(single, rounds)
    batch_s = time_interleaved(together, rounds) if batch_size > 1 else alone_s
    return [
        Cost(
            sum(parameter.numel() for parameter in model.parameters()),
            statistics.mean(count_macs(model, batch) for batch in batches) / 1e9,
            statistics.median(alone),
            batch_size / statistics.median(many),
            statistics.median(a / b for a, b in zip(alone_s[0], alone, strict=True)),
            max(peak_bytes(model, batch) for batch in batches),
        )
        for model, batches, alone, many in zip(models, pictures, alone_s, batch_s, strict=True)
    ]


def time_interleaved(
    candidates: Sequence[Sequence[Callable[[], object]]], rounds: int
) -> list[list[float]]:
    """Return the seconds of each contestant in each round, where it does one of its tasks."""
    seconds: list[list[float]] = [[] for _ in candidates]
    for number in range(WARM_UP + rounds):
        for tasks, taken in zip(candidates, seconds, strict=True):
            began = time.perf_counter()
            tasks[number % len(tasks)]()
            if number >= WARM_UP:
                taken.append(time.perf_counter() - began)
    return seconds


def count_macs(model: Detector, batch: Batch) -> float:
    """Return the multiply-adds of one answer, as the paper counts: one is two operations."""
    counter = FlopCounterMode(display=False, custom_mapping=UNCOUNTED)
    with _untrained(model), counter:
        _answer(model, batch)
    return counter.get_total_flops() / 2


def peak_bytes(model: Detector, batch: Batch) -> int:
    """Return the memory that the model and one of its answers take."""
    weights = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
    if batch.pixels.device.type == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        _answer(model, batch)
        return weights + torch.cuda.max_memory_allocated() - before
    alive = _Alive()
    with alive:
        _answer(model, batch)
    return weights + batch.pixels.nbytes + alive.peak


class _Alive(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the storages that operations make, until the last tensor on them is gone."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        arguments: tuple[Any, ...] = (),
        options: Mapping[str, Any] | None = None,
    ) -> Any:
        result = function(*arguments, **(options or {}))
        given = {
            leaf.untyped_storage()._cdata
            for leaf in tree_leaves((arguments, options))
            if isinstance(leaf, Tensor)
        }
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and leaf.untyped_storage()._cdata not in given:
                self._note(leaf.untyped_storage())
        return result

    def _note(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._seen:
            return
        self._seen.add(key)
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, key, storage.nbytes())

    def _forget(self, key: int, count: int) -> None:
        self._seen.discard(key)
        self.now -= count


@contextmanager
def _untrained(model: Detector) -> Iterator[None]:
    """Let no parameter ask for a gradient: torch's counter would wait for it, even in inference."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        for parameter in trained:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


def _answer(model: Detector, batch: Batch) -> None:
    size_px = (batch.pixels.shape[-2], batch.pixels.shape[-1])
    with torch.inference_mode():
        infer(model, batch, [size_px] * len(batch.pixels))
    if batch.pixels.device.type == "cuda":
        torch.cuda.synchronize()


def _repeated(batch: Batch, times: int) -> Batch:
    return Batch(batch.pixels.repeat(times, 1, 1, 1), batch.valid.repeat(times, 1, 1), batch.padded)


def _attention(
    query: Sequence[int], key: Sequence[int], value: Sequence[int], *rest: Any, **more: Any
) -> int:
    count: int = sdpa_flop_count(query, key, value)  # type: ignore[no-untyped-call]
    return count


def _sampling(*shapes: Any, out_shape: Any = None, **more: Any) -> int:
    values = 1
    for side in out_shape:
        values *= side
    return 2 * CORNERS * values


# What torch's counter leaves out: attention as a CPU computes it, and the sampling of deformable
# attention.
UNCOUNTED: dict[Any, Any] = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten.grid_sampler_2d: _sampling,
}
