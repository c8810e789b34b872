"""A few shapes get a graph of their own, and few graphs are compiled, whatever comes."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from setmatch.inference.engines.openvino_graphs import MOST_OWN, OFTEN, Graphs, OwnShapes

# Runs of one shape after another; a few shapes, so that they return.
STREAMS = st.lists(st.tuples(st.integers(0, 5), st.integers(1, 40)), max_size=40)


def test_the_first_shape_has_a_graph_of_its_own_at_once():
    """One image, a video, or a folder of one camera never needs the slower graph."""
    shapes = OwnShapes()
    assert all(shapes.has_own("first") for _ in range(3))


def test_shapes_that_come_seldom_share_a_graph():
    """A thousand photographs of a thousand sizes compile no more than the first."""
    shapes = OwnShapes()
    assert [shapes.has_own(number) for number in range(1000)] == [True] + [False] * 999


def test_a_shape_that_comes_often_gets_its_own():
    """It does with its run number OFTEN, though others came first."""
    shapes = OwnShapes()
    for number in range(100):
        shapes.has_own(number)
    found = [shapes.has_own("often") for _ in range(OFTEN + 1)]
    assert found == [False] * (OFTEN - 1) + [True, True]


def test_a_frequent_shape_takes_the_place_of_a_rare_one():
    """Batches of eight, once a server is busy, though single images came first."""
    shapes = OwnShapes()
    for shape in ("first", *["second"] * OFTEN, *["third"] * OFTEN):
        shapes.has_own(shape)
    assert shapes.kept == {"second", "third"}


@given(STREAMS)
def test_few_graphs_are_compiled(stream: list[tuple[int, int]]):
    """Each compilation pays: the shape has come often, or it is the first."""
    shapes, compiled, runs = OwnShapes(), Counter[int](), Counter[int]()
    for shape, times in stream:
        for _ in range(times):
            had = shape in shapes.kept
            runs[shape] += 1
            if shapes.has_own(shape) and not had:
                compiled[shape] += 1
                assert runs[shape] >= OFTEN or runs.total() == 1
            assert len(shapes.kept) <= MOST_OWN
    for shape, times in compiled.items():
        assert times <= 1 + np.log2(max(runs[shape] / OFTEN, 1)) + 1


@dataclass
class FakeModel:
    """A model that notes what it was reshaped to; `refused` are sizes that it cannot have."""

    shape: Any = None
    refused: tuple[int, ...] = ()

    def clone(self) -> "FakeModel":
        return FakeModel(refused=self.refused)

    def reshape(self, shapes: dict[str, list[int]]) -> None:
        if shapes["pixels"][0] in self.refused:
            raise RuntimeError("cannot be")
        self.shape = shapes["pixels"]


@dataclass
class FakeCore:
    """Compiles models whose results are the shapes that they were compiled for."""

    compiled: list[Any] = field(default_factory=list)

    def compile_model(self, model: FakeModel, device: str, settings: dict[str, object]) -> Any:
        self.compiled.append(model.shape)
        return FakeCompiled(model.shape)


@dataclass
class FakeCompiled:
    """Makes requests."""

    shape: Any

    def create_infer_request(self) -> Any:
        return FakeRequest(self.shape, threading.get_ident())


@dataclass
class FakeRequest:
    """Says what it was compiled for; it belongs to one thread."""

    shape: Any
    thread: int

    def infer(self, inputs: dict[str, np.ndarray]) -> Any:
        assert threading.get_ident() == self.thread
        return self.shape


def images(count: int) -> dict[str, np.ndarray]:
    return {"pixels": np.zeros((count, 3, 4, 4), np.float32)}


def test_a_graph_is_compiled_for_a_shape_once():
    """And the one for any shape only when a second shape comes."""
    core = FakeCore()
    graphs = Graphs(core, FakeModel(), {})
    assert [graphs.infer(images(1)) for _ in range(3)] == [[1, 3, 4, 4]] * 3
    assert core.compiled == [[1, 3, 4, 4]]
    assert [graphs.infer(images(2)) for _ in range(OFTEN - 1)] == [None] * (OFTEN - 1)
    assert graphs.infer(images(2)) == [2, 3, 4, 4]
    assert core.compiled == [[1, 3, 4, 4], None, [2, 3, 4, 4]]


def test_a_graph_that_lost_its_place_is_compiled_again_when_it_comes_often():
    """No graph is kept beside those that have a place."""
    core = FakeCore()
    graphs = Graphs(core, FakeModel(), {})
    for count in (1, *[2] * OFTEN, *[3] * OFTEN, *[1] * 2 * OFTEN):
        graphs.infer(images(count))
    own = [shape[0] for shape in core.compiled if shape is not None]
    assert own == [1, 2, 3, 1]
    assert len(graphs._own) == MOST_OWN


def test_a_shape_that_cannot_have_its_own_runs_in_the_graph_for_any():
    """That graph says what is wrong, if anything is."""
    core = FakeCore()
    graphs = Graphs(core, FakeModel(refused=(1,)), {})
    assert [graphs.infer(images(1)) for _ in range(3)] == [None] * 3
    assert core.compiled == [None]


@pytest.mark.parametrize("shapes", [1, 3])
def test_threads_share_graphs_but_not_requests(shapes: int):
    """A request runs in one thread at a time."""
    core = FakeCore()
    graphs = Graphs(core, FakeModel(), {})

    def run(thread: int) -> None:
        for number in range(60):
            graphs.infer(images(1 + number % shapes))

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(run, range(4)))
    assert len(core.compiled) == len(set(map(str, core.compiled)))
