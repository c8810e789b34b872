"""Open a compiled package, .pt2, that setmatch exported, and run it by PyTorch."""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from setmatch.errors import ConfigError, WeightsError, short
from setmatch.files.reading import open_regular, require_regular
from setmatch.inference.engines.exported_card import KEY, read_exported_card
from setmatch.inference.engines.session import Session, not_ours, output_names

if TYPE_CHECKING:
    import numpy as np

CARD = f"extra/{KEY}.json"  # in the archive, below its one folder
LEAST_SIDE_PX = 2  # a package that was compiled for any size is for more than one pixel
_TRUSTED: set[Path] = set()  # by this process


class TorchSession(Session):
    """A package of compiled code, and the card inside. Its code runs as soon as it is loaded.

    Raises WeightsError for a file that setmatch did not export or that is damaged, ConfigError for
    one that is not trusted, or was compiled for another processor.
    """

    def __init__(self, path: str | Path, trust: bool = False) -> None:
        self.path = str(path)
        self.exported = read_exported_card(_read_card(Path(path)), self.path)
        if not (trust or is_trusted(path)):
            raise ConfigError(
                f"{path}: holds compiled code, which runs with your rights when it is loaded. If "
                f"you trust who made it, give trust=True (Python) or --trust {path} (command line)"
            )
        _require_processor(self.exported.made_with, self.path)
        try:
            self._run = torch._inductor.aoti_load_package(str(path))
        except RuntimeError as error:
            raise WeightsError(
                f"{path}: PyTorch cannot open it: {_cause(error)}; export the model again, on this "
                "machine and with this version of torch"
            ) from None
        self.inputs, self.outputs = {"pixels"}, set(output_names(self.exported.has_masks))

    def run(self, outputs: Sequence[str], inputs: "Mapping[str, np.ndarray]") -> "list[np.ndarray]":
        """Return the outputs; raises ConfigError for inputs that the package cannot compute."""
        pixels = inputs["pixels"]
        self._require_shape(pixels, inputs)
        try:
            with torch.inference_mode():
                found = self._run(torch.from_numpy(pixels))
        except RuntimeError as error:
            raise self._does_not_run(inputs, _cause(error)) from None
        names = output_names(self.exported.has_masks)
        values = dict(zip(names, found, strict=True))
        return [values[name].numpy() for name in outputs]

    def _require_shape(self, pixels: "np.ndarray", inputs: "Mapping[str, np.ndarray]") -> None:
        """Raise ConfigError for a shape that compiled code would read beyond, for it never asks."""
        size_px = self.exported.card.preprocessing.size_px
        images, channels, *sides = pixels.shape
        fits = tuple(sides) == size_px if size_px else min(sides) >= LEAST_SIDE_PX
        if pixels.dtype != "float32" or channels != 3 or images < 1 or not fits:
            wanted = "x".join(map(str, size_px)) if size_px else "any size"
            raise self._does_not_run(inputs, f"it takes float32 images of {wanted}")


def trust(path: str | Path) -> None:
    """Trust the compiled code in a file, for all that this process loads."""
    _TRUSTED.add(Path(path).resolve())


def is_trusted(path: str | Path) -> bool:
    """Return whether this process trusts the compiled code in a file."""
    return Path(path).resolve() in _TRUSTED


def processor() -> str:
    """Return what code that is compiled here needs of a processor."""
    from torch._inductor.cpu_vec_isa import pick_vec_isa

    return f"{torch._C._get_cpu_capability()} {pick_vec_isa()}"


def _require_processor(made_with: Mapping[str, Any], path: str) -> None:
    needed = made_with.get("processor")
    if needed != processor():
        raise ConfigError(
            f"{path}: compiled for a processor with {needed}, not {processor()}; export it on this "
            "machine, or to ONNX"
        )


def _read_card(path: Path) -> str:
    """Return the text of the card, after comparing the archive with its checksums."""
    require_regular(path)
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            broken = archive.testzip()
            cards = [name for name in archive.namelist() if name.partition("/")[2] == CARD]
            text = archive.read(cards[0]).decode() if len(cards) == 1 else None
    except (zipfile.BadZipFile, UnicodeDecodeError, ValueError, NotImplementedError) as error:
        raise WeightsError(
            f"{path}: damaged, or not a package of PyTorch ({error}); copy it again, or export the "
            "model again"
        ) from None
    if broken is not None:
        raise WeightsError(f"{path}: damaged in {short(broken)}; copy it again")
    if text is None:
        raise not_ours(str(path), "archive")
    return text


def _cause(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return short(lines[0] if lines else type(error).__name__, 160)
