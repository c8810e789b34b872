"""What a model costs: parameters, multiply-adds, interleaved timing, and memory."""

import math
import statistics
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from setmatch.evaluation.timing import Times, time_interleaved
from setmatch.inference.engines.base import Engine
from setmatch.inference.engines.eager import EagerEngine, evaluation_copy
from setmatch.models.detector import Detector
from setmatch.structures.batch import Batch

BILINEAR_CORNERS = 4  # feature cells that bilinear sampling reads for a point


@dataclass(frozen=True)
class Cost:
    """The cost of a model: of one image, except for `images_per_s`, which is measured in batches.

    `gmacs` are 10⁹ multiply-adds of convolutions, matrix products, attention and sampling, averaged
    over the images. Elementwise arithmetic, normalization and non-maximum suppression are not
    counted. `speedup` is the first candidate's latency divided by this one's, the median over
    rounds. `peak_bytes` counts the weights and the tensors that exist at the same time; on a CPU it
    does not include temporary memory inside kernels. `parameters`, `gmacs` and `peak_bytes` are
    None for an engine that does not run in PyTorch. `scatter` is how far half of the latencies are
    apart, as a fraction of their median; 0 for images of several sizes, which differ anyway.
    """

    parameters: int | None
    gmacs: float | None
    latency_s: float
    images_per_s: float
    speedup: float
    peak_bytes: int | None
    scatter: float = 0.0


def measure_costs(
    engines: Sequence[Engine],
    batches: Sequence[Sequence[Batch]],
    batch_size: int,
    rounds: int,
) -> list[Cost]:
    """Measure engines on images; `batches` holds, for each engine, preprocessed batches of one.

    The engines take turns in every round, so that other load on the machine affects all of them
    alike. Times are medians over rounds and exclude reading and resizing images.
    """
    single = [
        [partial(_run, engine, batch) for batch in own]
        for engine, own in zip(engines, batches, strict=True)
    ]
    batched = [
        [partial(_run, engine, _repeat(batch, batch_size)) for batch in own]
        for engine, own in zip(engines, batches, strict=True)
    ]
    single_s = time_interleaved(single, rounds)
    batched_s = time_interleaved(batched, rounds) if batch_size > 1 else single_s
    costs = []
    for engine, own, latencies_s, times_s in zip(
        engines, batches, single_s, batched_s, strict=True
    ):
        parameters = gmacs = memory = None
        times = Times(tuple((seconds,) for seconds in latencies_s))
        if isinstance(engine, EagerEngine):
            detector = engine.detector
            parameters = sum(parameter.numel() for parameter in detector.parameters())
            gmacs = statistics.mean(count_macs(detector, batch) for batch in own) / 1e9
            memory = max(peak_bytes(detector, batch) for batch in own)
        costs.append(
            Cost(
                parameters,
                gmacs,
                times.median_s,
                batch_size / statistics.median(times_s),
                statistics.median(a / b for a, b in zip(single_s[0], latencies_s, strict=True)),
                memory,
                times.scatter if len({each.pixels.shape for each in own}) == 1 else 0.0,
            )
        )
    return costs


def count_macs(detector: Detector, batch: Batch) -> float:
    """Return the multiply-adds of one detection. The paper counts one as two operations."""
    counter = FlopCounterMode(display=False, custom_mapping=UNCOUNTED_BY_TORCH)
    engine = EagerEngine(evaluation_copy(detector))  # torch's counter expects no gradients
    with counter:
        _run(engine, batch)
    return counter.get_total_flops() / 2


def peak_bytes(detector: Detector, batch: Batch) -> int:
    """Return the memory of the weights and of one detection."""
    weights = sum(tensor.nbytes for tensor in (*detector.parameters(), *detector.buffers()))
    engine = EagerEngine(detector)
    if batch.pixels.device.type == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        _run(engine, batch)
        return weights + torch.cuda.max_memory_allocated() - before
    storages = _LiveStorages()
    with storages:
        _run(engine, batch)
    return weights + batch.pixels.nbytes + storages.peak_bytes


class _LiveStorages(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types for it
    """Sums the storages that operations allocate, until the last tensor that uses them is freed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch has no types for it
        self.live_bytes = self.peak_bytes = 0
        self._keys: set[int] = set()

    def __torch_dispatch__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        arguments: tuple[Any, ...] = (),
        options: Mapping[str, Any] | None = None,
    ) -> Any:
        result = function(*arguments, **(options or {}))
        inputs = {
            leaf.untyped_storage()._cdata
            for leaf in tree_leaves((arguments, options))
            if isinstance(leaf, Tensor)
        }
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and leaf.untyped_storage()._cdata not in inputs:
                self._add(leaf.untyped_storage())
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._keys:
            return
        self._keys.add(key)
        self.live_bytes += storage.nbytes()
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)
        weakref.finalize(storage, self._remove, key, storage.nbytes())

    def _remove(self, key: int, count: int) -> None:
        self._keys.discard(key)
        self.live_bytes -= count


def _run(engine: Engine, batch: Batch) -> None:
    size_px = (batch.pixels.shape[-2], batch.pixels.shape[-1])
    engine.detect(batch, [size_px] * len(batch.pixels))
    if batch.pixels.device.type == "cuda":
        torch.cuda.synchronize()


def _repeat(batch: Batch, times: int) -> Batch:
    return Batch(batch.pixels.repeat(times, 1, 1, 1), batch.valid.repeat(times, 1, 1), batch.padded)


def _attention_flops(
    query: Sequence[int], key: Sequence[int], value: Sequence[int], *rest: Any, **more: Any
) -> int:
    count: int = sdpa_flop_count(query, key, value)  # type: ignore[no-untyped-call]  # torch has no types for it
    return count


def _sampling_flops(*shapes: Any, out_shape: Any = None, **more: Any) -> int:
    return 2 * BILINEAR_CORNERS * math.prod(out_shape)


# Operations that torch's counter leaves out: attention on a CPU, and the sampling of deformable
# attention.
UNCOUNTED_BY_TORCH: dict[Any, Any] = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
    torch.ops.aten.grid_sampler_2d: _sampling_flops,
}
