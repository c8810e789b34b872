"""Compute parts by the workers of Ray, on this machine or on a cluster; only this file uses ray.

This process alone writes the parts. If a worker dies, Ray starts another, which computes the part
anew: nothing is lost, and nothing is there twice.
"""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from setmatch.bulk.parts import Part
from setmatch.bulk.predictor import Predictor
from setmatch.bulk.remote import is_remote
from setmatch.errors import ConfigError, ExtraMissingError, SetmatchError
from setmatch.usage_reports import turn_off_reports

if TYPE_CHECKING:
    import pyarrow

_TRIES = 3  # of a part whose worker dies, after the first
_WAITING = 2  # parts of a worker: one that is computed, and the next one
_PASSED_ON = ("SETMATCH_MAX_PIXELS",)


class Worker:
    """Computes parts in a process of Ray.

    `shared` has the reference of a predictor alone: Ray would not start a worker again whose
    arguments themselves are in its store.
    """

    def __init__(self, shared: Sequence[Any]) -> None:
        import ray

        (reference,) = shared
        self._predictor: Predictor = ray.get(reference)

    def start(self) -> None:
        """Load the model, by which a worker shows that it runs."""
        self._predictor.opened()

    def table(self, paths: Sequence[str], images: Sequence[str]) -> "pyarrow.Table":
        """Return the rows of some images."""
        return self._predictor.table(paths, images, lambda done: None)


def compute_on_ray(
    predictor: Predictor, parts: Sequence[Part], advance: Callable[[int], None]
) -> "Iterator[tuple[Part, pyarrow.Table]]":
    """Yield the rows of each part, computed by a worker for each core, or GPU, that Ray has.

    Ray is the cluster at RAY_ADDRESS or, without one, this machine. Images must have the same paths
    in every worker. Raises what the workers raise, ConfigError if they die again and again on a
    part, and ExtraMissingError without ray.
    """
    if not parts:
        return
    ray = _started()
    resources = ray.cluster_resources()
    on_gpu = predictor.device != "cpu" and resources.get("GPU", 0) >= 1
    count = int(resources["GPU" if on_gpu else "CPU"])
    worker = ray.remote(Worker).options(
        num_cpus=1,
        num_gpus=1 if on_gpu else 0,
        max_restarts=-1,
        max_task_retries=_TRIES,
    )
    shared = ray.put(predictor.with_weights())  # kept until the workers have gone
    workers = [worker.remote([shared]) for _ in range(min(count, len(parts)))]
    try:
        yield from _computed(ray, workers, parts, advance)
    finally:
        for each in workers:
            ray.kill(each)


def _computed(
    ray: Any, workers: Sequence[Any], parts: Sequence[Part], advance: Callable[[int], None]
) -> "Iterator[tuple[Part, pyarrow.Table]]":
    """Give parts to the workers that have started; others may wait for a place for ever."""
    waiting = list(reversed(parts))
    starting = {worker.start.remote(): worker for worker in workers}
    running: dict[Any, tuple[Part, Any]] = {}

    def give_part(worker: Any) -> None:
        if waiting:
            part = waiting.pop()
            running[worker.table.remote(part.images, _absolute(part.images))] = (part, worker)

    while waiting or running:
        (done,), _ = ray.wait([*running, *starting], num_returns=1)
        if done in starting:
            worker = starting.pop(done)
            _require_started(ray, done)
            for _ in range(_WAITING):
                give_part(worker)
            continue
        part, worker = running.pop(done)
        table = _result(ray, done, part)
        give_part(worker)
        advance(len(part))
        yield part, table


def _require_started(ray: Any, done: Any) -> None:
    try:
        ray.get(done)
    except ray.exceptions.RayError as error:
        _raise_ours(error)
        raise ConfigError(
            f"ray: a worker cannot start ({_last_line(error)}); install the same version of "
            "setmatch on every machine, and the modules of a model of your own"
        ) from error


def _result(ray: Any, done: Any, part: Part) -> "pyarrow.Table":
    """Return the rows of a part; raise what its worker raised, or ConfigError if it always dies."""
    try:
        return ray.get(done)
    except ray.exceptions.RayTaskError as error:
        _raise_ours(error)
        raise
    except ray.exceptions.RayActorError:
        raise ConfigError(
            f"{part.path}: its worker died {_TRIES + 1} times, perhaps for want of memory; its "
            f"images are {part.images[0]} to {part.images[-1]}; leave out the one that is to "
            "blame, or give workers more memory"
        ) from None


def _raise_ours(error: Exception) -> None:
    """Raise the error of a worker that a user can fix, without Ray's words around it."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, SetmatchError):
        raise cause from None


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(error).__name__


def _started() -> Any:
    """Return the module ray, connected to a cluster, or to this machine."""
    turn_off_reports("ray")
    try:
        import ray
    except ImportError:
        raise ExtraMissingError("--ray needs ray: pip install 'setmatch[ray]'") from None
    if not ray.is_initialized():
        passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        try:
            ray.init(
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env={"env_vars": passed_on},
            )
        except (ConnectionError, ValueError, RuntimeError, OSError) as error:
            raise ConfigError(
                f"ray: cannot be started ({' '.join(str(error).split())[:200]}); check RAY_ADDRESS"
            ) from error
    return ray


def _absolute(images: Sequence[str]) -> list[str]:
    """Return paths that do not depend on a worker's current folder."""
    return [each if is_remote(each) else os.path.abspath(each) for each in images]
