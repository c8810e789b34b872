"""The engine onnxruntime: runs an exported file with ONNX Runtime instead of PyTorch."""

from pathlib import Path

from setmatch.inference.engines.exported import ExportedEngine
from setmatch.inference.engines.onnx_session import open_network


class OnnxRuntimeEngine(ExportedEngine):
    """Runs an ONNX file that setmatch exported.

    Raises WeightsError for a file that setmatch did not export or that is damaged,
    ExtraMissingError without the libraries of the extra `onnx`.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__(open_network(path))
