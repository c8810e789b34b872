"""Weights of a graph take half or a quarter of the bytes, and change by rounding alone."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from setmatch.deploy.precision.smaller_weights import with_smaller_weights


def graph(kernel: np.ndarray, matrix: np.ndarray, bias: np.ndarray) -> onnx.ModelProto:
    """A convolution with a bias, and a product with a matrix."""
    made = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "kernel", "bias"], ["y"]),
            helper.make_node("MatMul", ["y", "matrix"], ["z"]),
        ],
        "graph",
        [helper.make_tensor_value_info("x", 1, [1, kernel.shape[1], 1, matrix.shape[0]])],
        [helper.make_tensor_value_info("z", 1, [1, "C", 1, matrix.shape[1]])],
        [
            numpy_helper.from_array(each, name)
            for name, each in {"kernel": kernel, "matrix": matrix, "bias": bias}.items()
        ],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def weights_in(model: onnx.ModelProto, name: str) -> np.ndarray:
    """A weight as the graph uses it."""
    from onnx.reference import ReferenceEvaluator

    part = onnx.ModelProto()
    part.CopyFrom(model)
    del part.graph.node[:]
    part.graph.node.extend(each for each in model.graph.node if each.op_type in ("Cast", "Mul"))
    del part.graph.output[:], part.graph.input[:]
    part.graph.output.append(helper.make_tensor_value_info(name, 1, None))
    (value,) = ReferenceEvaluator(part).run(None, {})
    return np.asarray(value)


@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-6, 1.0, 1e4]))
@settings(max_examples=10)
def test_an_entry_changes_by_the_rounding_of_its_channel(seed: int, scale: float):
    """Channels of very different size each keep their precision; channels of zeros stay zero."""
    random = np.random.default_rng(seed)
    sizes = (scale * 10.0 ** random.integers(-3, 3, 32)).astype(np.float32)
    sizes[0] = 0
    kernel = random.normal(size=(32, 16, 1, 1)).astype(np.float32) * sizes[:, None, None, None]
    matrix = random.normal(size=(16, 32)).astype(np.float32) * sizes
    bias = random.normal(size=32).astype(np.float32)
    model = graph(kernel, matrix, bias)
    small = with_smaller_weights(model, "int8")
    onnx.checker.check_model(small)
    for name, given_, axes in (("kernel", kernel, (1, 2, 3)), ("matrix", matrix, (0,))):
        largest = np.abs(given_).max(axis=axes, keepdims=True)
        assert (np.abs(weights_in(small, name) - given_) <= largest / 253).all()
    assert "bias" in {each.name for each in small.graph.initializer}


@pytest.mark.parametrize(("weights", "share"), [("half", 0.55), ("int8", 0.32)])
def test_the_file_is_smaller_and_computes_the_same(weights, share: float):
    """In ONNX Runtime, up to rounding."""
    import onnxruntime

    random = np.random.default_rng(0)
    kernel = random.normal(size=(64, 64, 1, 1)).astype(np.float32)
    matrix = random.normal(size=(64, 64)).astype(np.float32)
    model = graph(kernel, matrix, np.zeros(64, np.float32))
    small = with_smaller_weights(model, weights)
    contents = [each.SerializeToString() for each in (model, small)]
    assert len(contents[1]) < share * len(contents[0])
    pixels = random.normal(size=(1, 64, 1, 64)).astype(np.float32)
    expected, found = (
        onnxruntime.InferenceSession(each).run(None, {"x": pixels})[0] for each in contents
    )
    assert np.abs(found - expected).max() < 0.02 * np.abs(expected).max()
