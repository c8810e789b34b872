"""Store the weights of a graph in fewer bytes; it computes in float32 as before.

Each weight becomes float32 again where the graph uses it, which runtimes compute once, when they
open the file. So a small file is as fast as a large one, in every runtime.
"""

from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    import onnx

Weights = Literal["half", "int8"]
_LEAST_ENTRIES = 256  # smaller tensors, such as biases and scales, stay as they are
_STEPS = 127  # on either side of zero: symmetric int8


def with_smaller_weights(model: "onnx.ModelProto", weights: Weights) -> "onnx.ModelProto":
    """Return a graph with its large matrices and kernels in float16, or in int8 with scales.

    In int8, each output channel has a scale of its own: an entry changes by at most 1/254 of the
    largest absolute value of its channel.
    """
    import onnx
    from onnx import helper, numpy_helper

    made = onnx.ModelProto()
    made.CopyFrom(model)
    channel_axes = _channel_axes(model)
    nodes, initializers = [], []
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.ndim < 2 or values.size < _LEAST_ENTRIES:
            initializers.append(tensor)
            continue
        name = tensor.name
        if weights == "half":
            small = values.astype(np.float16)
            nodes.append(helper.make_node("Cast", [f"{name}.half"], [name], to=1))
            initializers.append(numpy_helper.from_array(small, f"{name}.half"))
            continue
        axis = channel_axes.get(name, 0)
        steps, scale = _int8(values, axis)
        nodes.append(helper.make_node("Cast", [f"{name}.int8"], [f"{name}.steps"], to=1))
        nodes.append(helper.make_node("Mul", [f"{name}.steps", f"{name}.scale"], [name]))
        initializers.append(numpy_helper.from_array(steps, f"{name}.int8"))
        initializers.append(numpy_helper.from_array(scale, f"{name}.scale"))
    del made.graph.initializer[:], made.graph.node[:]
    made.graph.initializer.extend(initializers)
    made.graph.node.extend([*nodes, *model.graph.node])
    return made


def _channel_axes(model: "onnx.ModelProto") -> dict[str, int]:
    """Return the axis of output channels of each weight: the last one of a factor of MatMul."""
    return {node.input[1]: -1 for node in model.graph.node if node.op_type == "MatMul"}


def _int8(values: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    others = tuple(each for each in range(values.ndim) if each != axis % values.ndim)
    largest = np.abs(values).max(axis=others, keepdims=True)
    scale = np.maximum(largest, np.finfo(np.float32).tiny) / np.float32(_STEPS)
    return np.round(values / scale).astype(np.int8), scale.astype(np.float32)
