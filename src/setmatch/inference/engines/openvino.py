"""The engine openvino: runs an exported .xml file with OpenVINO instead of PyTorch."""

from pathlib import Path

from setmatch.inference.engines.exported import ExportedEngine
from setmatch.inference.engines.openvino_session import OpenVinoSession


class OpenVinoEngine(ExportedEngine):
    """Runs an OpenVINO model that setmatch exported, in float32.

    Raises WeightsError for a file that setmatch did not export or that is damaged,
    ExtraMissingError without openvino.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__(OpenVinoSession(path, network=True))
