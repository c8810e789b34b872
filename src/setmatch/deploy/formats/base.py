"""What every format of exported files offers: it is built, written, opened, and compared."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from numbers import Integral
from pathlib import Path
from typing import Protocol

from jaxtyping import Float
from torch import Tensor

from setmatch.deploy.precision.precision import Lower, Precision
from setmatch.errors import ConfigError, ExtraMissingError
from setmatch.inference.engines.exported import ExportedEngine
from setmatch.inference.engines.session import Session
from setmatch.models.detector import Detector
from setmatch.usage_reports import turn_off_reports

LEAST_SIDE_PX, MOST_SIDE_PX = 32, 8192
INNER = ("resized", "pixels")  # values inside an end-to-end graph, which are verified as well


class ExportedGraph(Protocol):
    """A model in a format, ready to be written."""

    def save(self, path: Path) -> None:
        """Write the file, and the `others` of its format beside it."""

    def first_difference(self, pixels: Float[Tensor, "B 3 H W"]) -> str:
        """Return which part of the graph first differs from PyTorch on images, as a sentence."""


@dataclass(frozen=True)
class ExportFormat:
    """A format of exported files.

    Its file ends in `suffix`; files of the same name that end in `others` belong to it. It needs
    `libraries`, which the extra of the name `extra` installs. `build` takes a detector in float32
    on the CPU, the (height, width) of its input or None for any, and whether the graph is
    end-to-end. `open` returns the engine of a file. `open_ends` returns the session of an
    end-to-end file, whose outputs include INNER. What `holds_code` runs it as soon as it is opened.
    `precisions` rewrite a file in a lower precision.
    """

    name: str
    suffix: str
    others: tuple[str, ...]
    libraries: tuple[str, ...]
    extra: str
    build: Callable[[Detector, tuple[int, int] | None, bool], ExportedGraph]
    open: Callable[[Path], ExportedEngine]
    open_ends: Callable[[Path], Session]
    precisions: Mapping[Precision, Lower] = field(default_factory=dict)
    holds_code: bool = False

    def require_libraries(self) -> None:
        """Raise ExtraMissingError, which names the extra, unless the libraries are installed."""
        for name in self.libraries:
            turn_off_reports(name)
            try:
                importlib.import_module(name)
            except ImportError:
                raise ExtraMissingError(
                    f"to write and run files of the format {self.name} needs {name}; install it "
                    f"with: pip install 'setmatch[{self.extra}]'"
                ) from None


def require_size(size_px: tuple[int, int] | None) -> None:
    """Raise ConfigError for a (height, width) that no file can be of."""
    if size_px is not None and (
        len(size_px) != 2 or not all(isinstance(each, Integral) for each in size_px)
    ):
        raise ConfigError(f"size_px = {size_px}: give (height, width) in whole pixels")
    if size_px is not None and not all(LEAST_SIDE_PX <= each <= MOST_SIDE_PX for each in size_px):
        height, width = size_px
        raise ConfigError(
            f"size {height}x{width}: sides can be {LEAST_SIDE_PX} to {MOST_SIDE_PX} pixels"
        )
