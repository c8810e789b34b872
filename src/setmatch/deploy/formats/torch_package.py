"""Write a detector as a package of compiled code, .pt2, by PyTorch's AOTInductor."""

import zipfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor
from torch._dynamo.exc import UserError

from setmatch.deploy.formats.base import ExportFormat
from setmatch.deploy.formats.card import exported_card
from setmatch.deploy.formats.onnx import TRACED_IMAGES, TRACED_PX
from setmatch.deploy.formats.traced import TracedDetector, quiet
from setmatch.errors import ConfigError, short
from setmatch.inference.engines.compiled import CompiledEngine
from setmatch.inference.engines.exported_card import ExportedCard
from setmatch.inference.engines.session import Session
from setmatch.inference.engines.torch_session import CARD, processor
from setmatch.models.detector import Detector

if TYPE_CHECKING:
    from torch.export import ExportedProgram


@dataclass(frozen=True)
class TorchPackage:
    """A traced program, which is compiled when it is written, and its card."""

    program: "ExportedProgram"
    card: ExportedCard

    def save(self, path: Path) -> None:
        """Compile and write the package; raises ConfigError if the compiler fails."""
        from torch._inductor import aoti_compile_and_package
        from torch._inductor.exc import CppCompileError

        with quiet():
            try:
                aoti_compile_and_package(self.program, package_path=str(path))
            except CppCompileError as error:
                reason = short(" ".join(str(error).split()), 200)
                raise ConfigError(f"to torch: the C++ compiler fails: {reason}") from error
        with zipfile.ZipFile(path, "a") as archive:
            folder = archive.namelist()[0].partition("/")[0]
            archive.writestr(f"{folder}/{CARD}", self.card.to_json())

    def first_difference(self, pixels: Float[Tensor, "B 3 H W"]) -> str:
        """Say that compiled code cannot be looked into."""
        return "compiled code has no parts that could be compared one by one"


def to_torch(
    detector: Detector, size_px: tuple[int, int] | None = None, end_to_end: bool = False
) -> TorchPackage:
    """Return the program of a detector for images of `size_px` (height, width), or of any size.

    Raises ConfigError for a model that cannot be exported, and without a C++ compiler.
    """
    if end_to_end:
        raise ConfigError("to torch: a package takes preprocessed images; leave out end_to_end")
    _require_compiler()
    card = exported_card(detector, size_px, False, ("torch",), {"processor": processor()})
    traced = TracedDetector(detector).eval()
    pixels = torch.zeros(TRACED_IMAGES, 3, *(size_px or TRACED_PX))
    free = dict.fromkeys((0,) if size_px else (0, 2, 3), torch.export.Dim.DYNAMIC)
    with quiet(), torch.no_grad():
        try:
            program = torch.export.export(traced, (pixels,), dynamic_shapes=(free,))
        except UserError as error:
            reason = short(" ".join(str(error).split()), 200)
            raise ConfigError(
                f"model {detector.card.preset}: cannot be traced: {reason}"
            ) from error
    return TorchPackage(program, card)


def _require_compiler() -> None:
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        raise ConfigError(
            "to torch: needs a C++ compiler; install g++ or clang, or name one in the environment "
            "variable CXX"
        ) from None


def _no_ends(path: Path) -> Session:
    raise AssertionError("a package is not written end to end")


TORCH = ExportFormat(
    "torch",
    ".pt2",
    (),
    (),
    "",
    to_torch,
    partial(CompiledEngine, trust=True),  # what was compiled here
    _no_ends,
    holds_code=True,
)
