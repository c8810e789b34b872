"""Compile an OpenVINO model for the shapes that come; a few of them get a graph of their own."""

import threading
from collections import Counter
from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

MOST_OWN = 2
OFTEN = 16  # runs, after which compiling pays


class OwnShapes:
    """Chooses the shapes that are worth a graph of their own, at most MOST_OWN of them.

    The first shape is. Another one is once it has come OFTEN times; if all places are taken, once
    it has come twice as often as the rarest of those, whose place it takes. So few graphs are
    compiled, however many shapes come and in whatever order.
    """

    def __init__(self) -> None:
        self.kept: set[Hashable] = set()
        self._runs: Counter[Hashable] = Counter()

    def has_own(self, shape: Hashable) -> bool:
        """Count a run of a shape, and return whether it has a graph of its own from now on."""
        self._runs[shape] += 1
        if shape in self.kept:
            return True
        if len(self.kept) < MOST_OWN:
            earned = not self.kept or self._runs[shape] >= OFTEN
        else:
            rarest = min(self.kept, key=self._runs.__getitem__)
            earned = self._runs[shape] >= max(OFTEN, 2 * self._runs[rarest])
            if earned:
                self.kept.remove(rarest)
        if earned:
            self.kept.add(shape)
        return earned


class Graphs:
    """A model as graphs for single shapes, and one for any shape.

    A graph for one shape is up to a third faster, because OpenVINO computes sizes, positions and
    anchors when it compiles, and takes half the time to compile.
    """

    def __init__(self, core: Any, model: Any, settings: Mapping[str, Any]) -> None:
        self._core = core
        self._model = model
        self._settings = dict(settings)
        self._own_shapes = OwnShapes()
        self._own: dict[Hashable, _Graph] = {}
        self._any_shape: _Graph | None = None
        self._lock = threading.Lock()

    def infer(self, inputs: "Mapping[str, np.ndarray]") -> Any:
        """Return the outputs by name; raises RuntimeError for inputs that cannot be computed."""
        return self._graph_for(inputs).infer(inputs)

    def _graph_for(self, inputs: "Mapping[str, np.ndarray]") -> "_Graph":
        shapes = {name: value.shape for name, value in inputs.items()}
        shape = tuple(sorted(shapes.items()))
        with self._lock:
            if not self._own_shapes.has_own(shape):
                return self._for_any_shape()
            if shape not in self._own:
                kept = self._own_shapes.kept
                self._own = {each: graph for each, graph in self._own.items() if each in kept}
                self._own[shape] = self._for_one(shapes)
            return self._own[shape]

    def _for_one(self, shapes: Mapping[str, tuple[int, ...]]) -> "_Graph":
        model = self._model.clone()
        try:
            model.reshape({name: list(shape) for name, shape in shapes.items()})
            return self._compiled(model)
        except RuntimeError:  # the graph for any shape says why, if it fails, too
            return self._for_any_shape()

    def _for_any_shape(self) -> "_Graph":
        if self._any_shape is None:
            self._any_shape = self._compiled(self._model)
        return self._any_shape

    def _compiled(self, model: Any) -> "_Graph":
        return _Graph(self._core.compile_model(model, "CPU", self._settings))


class _Graph:
    """A compiled graph with a request for each thread: a request runs in one at a time."""

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled
        self._local = threading.local()

    def infer(self, inputs: "Mapping[str, np.ndarray]") -> Any:
        if not hasattr(self._local, "request"):
            self._local.request = self._compiled.create_infer_request()
        return self._local.request.infer(dict(inputs))
