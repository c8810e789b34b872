"""The engine compiled: runs a package of compiled code, by PyTorch without the model's Python."""

from pathlib import Path

from setmatch.inference.engines.exported import ExportedEngine
from setmatch.inference.engines.torch_session import TorchSession


class CompiledEngine(ExportedEngine):
    """Runs a .pt2 package that setmatch exported.

    Its code runs as soon as it is loaded, so it is refused unless it is trusted. Raises
    WeightsError for a file that setmatch did not export or that is damaged, ConfigError for one
    that is not trusted, or was compiled for another processor.
    """

    def __init__(self, path: str | Path, trust: bool = False) -> None:
        super().__init__(TorchSession(path, trust))
