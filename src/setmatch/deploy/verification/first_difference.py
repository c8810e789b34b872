"""Find the part of an exported graph that first computes something else than PyTorch does."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, fx
from torch.export.graph_signature import InputKind

if TYPE_CHECKING:
    from torch.export import ExportedProgram

_LEAST = 1e-3  # of the largest value of a tensor; rounding is far below it


def first_difference(
    names: Sequence[str],
    values: Callable[[Sequence[str]], "list[np.ndarray]"],
    program: "ExportedProgram",
    pixels: Float[Tensor, "B 3 H W"],
) -> str:
    """Return which value of a graph first differs, run on the same images, as a sentence.

    `names` are the graph's values in order, as the nodes of the program that it was made from are
    called, and `values` returns some of them for `pixels`.
    """
    wanted = _Recorder(program).values(pixels)
    shared = [name for name in names if name in wanted]
    for name, given in zip(shared, values(shared), strict=True):
        expected, part = wanted[name]
        if expected.shape != given.shape:
            shapes = f"{list(given.shape)} instead of {list(expected.shape)}"
            return f"the graph first differs in {part} ({name}: shape {shapes})"
        if expected.dtype.kind != "f" or not expected.size:
            continue
        largest = float(np.abs(expected).max())
        apart = np.nan_to_num(np.abs(expected - given), nan=np.inf).max()
        if apart > _LEAST * max(largest, 1e-6):
            return f"the graph first differs in {part} ({name}: by {apart:.2g} of {largest:.2g})"
    return "every part of the graph computes what was traced, so the trace itself differs"


class _Recorder(fx.Interpreter):
    """Runs a traced program and keeps every tensor, with the module that it belongs to."""

    def __init__(self, program: "ExportedProgram") -> None:
        super().__init__(program.graph_module)
        self._program = program
        self._values: dict[str, tuple[np.ndarray, str]] = {}

    def values(self, pixels: Tensor) -> dict[str, tuple[np.ndarray, str]]:
        """Return the value of every node by its name, and the name of its module."""
        program = self._program
        state = {**program.state_dict, **program.constants}
        arguments = [
            pixels if spec.kind == InputKind.USER_INPUT else state[str(spec.target)]
            for spec in program.graph_signature.input_specs
        ]
        with torch.no_grad():
            self.run(*arguments, enable_io_processing=False)
        return self._values

    def run_node(self, node: fx.Node) -> Any:
        """Compute a node as usual, and keep its value if it is a tensor."""
        value = super().run_node(node)
        if isinstance(value, Tensor) and node.op == "call_function":
            modules = list(node.meta.get("nn_module_stack", {}).values())
            part = str(modules[-1][0]).removeprefix("detector").strip(".") if modules else ""
            self._values[node.name] = (value.numpy(), part or "the whole model")
        return value
