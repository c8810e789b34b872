"""The engine onnxruntime: runs an exported file with ONNX Runtime instead of PyTorch."""

from pathlib import Path
from typing import TYPE_CHECKING

from setmatch.errors import ExtraMissingError
from setmatch.inference.engines.exported import ExportedEngine
from setmatch.inference.engines.onnx_session import OnnxSession
from setmatch.inference.engines.session import output_names

if TYPE_CHECKING:
    import onnx


class OnnxRuntimeEngine(ExportedEngine):
    """Runs an ONNX file that setmatch exported.

    Raises WeightsError for a file that setmatch did not export or that is damaged,
    ExtraMissingError without the libraries of the extra `onnx`.
    """

    def __init__(self, path: str | Path) -> None:
        session = OnnxSession(path)
        if session.exported.end_to_end:
            session = OnnxSession(path, _read_network(path))
        super().__init__(session)


def network_of(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """Return an end-to-end graph without what it does before and after the network."""
    import onnx
    import onnx.utils

    values = {each.name for each in model.graph.value_info}
    outputs = [each for each in output_names(has_masks=True) if each in values]
    network = onnx.utils.Extractor(model).extract_model(["pixels"], outputs)
    network.metadata_props.extend(model.metadata_props)
    return network


def _read_network(path: str | Path) -> bytes:
    """Read the network of an end-to-end file; raises ExtraMissingError without onnx."""
    try:
        import onnx
    except ImportError:
        raise ExtraMissingError(
            f"{path}: an end-to-end file needs onnx to be taken apart; install it with: "
            "pip install 'setmatch[onnx]'"
        ) from None
    content: bytes = network_of(onnx.load(str(path))).SerializeToString()
    return content
