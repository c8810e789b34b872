"""ONNX Runtime Web, which runs a model in a browser: where a page gets its files."""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from setmatch.errors import ConfigError
from setmatch.files.reading import read_bytes

PACKAGE = "onnxruntime-web"
VERSION = "1.30.0"
FOLDER = "runtime"  # of a page with its own copy

# Each engine needs a script and a program, from the folder dist of the package. These are the
# SHA-384 of the published files: a browser refuses others.
_PUBLISHED: Mapping[str, Mapping[str, str]] = {
    "webgpu": {
        "ort.webgpu.bundle.min.mjs": (
            "1ntMeyj+z5diX6vBR5h+zlJBPc4iNvhCxE6nlammh8daBYcLBZkzrwDkuJjhwI+f"
        ),
        "ort-wasm-simd-threaded.asyncify.wasm": (
            "EPVDLTxuO663dkZO/pcKJF6vOyyfq/5z9FY1oksN0UWFX2ABH4wDDZQHeNoUleWR"
        ),
    },
    "wasm": {
        "ort.wasm.bundle.min.mjs": (
            "PLWz+nHEVHpjwBsO0YVdvQj6n5814Iv8E3b8FG0Rp/uIAtjFMCKOpP66iPzedrIG"
        ),
        "ort-wasm-simd-threaded.wasm": (
            "vjBJ1z7qrhkTyYsNqKeF6c7N+nOJSU94czEo+tvZcu8G75JparGq9kB+kTnEUNVM"
        ),
    },
}
# The second is used if the first cannot be reached.
_ADDRESSES = (
    f"https://cdn.jsdelivr.net/npm/{PACKAGE}@{VERSION}/dist",
    f"https://unpkg.com/{PACKAGE}@{VERSION}/dist",
)


@dataclass(frozen=True)
class RuntimeFile:
    """A file of the runtime: where to load it from, and the hash that it must have."""

    name: str
    integrity: str
    addresses: tuple[str, ...]


@dataclass(frozen=True)
class Runtime:
    """The script and the program of each engine; `copies` are files to put beside the page."""

    engines: Mapping[str, tuple[RuntimeFile, ...]]
    copies: tuple[Path, ...] = ()

    def of_processor(self) -> "Runtime":
        """Return the files of WebAssembly alone, for a model in int8, which is for processors."""
        files = self.engines["wasm"]
        kept = {each.name for each in files}
        return Runtime({"wasm": files}, tuple(each for each in self.copies if each.name in kept))


def published_runtime() -> Runtime:
    """Return the files that a page loads from a content delivery network."""
    return Runtime(
        {
            engine: tuple(
                RuntimeFile(
                    name, f"sha384-{digest}", tuple(f"{each}/{name}" for each in _ADDRESSES)
                )
                for name, digest in files.items()
            )
            for engine, files in _PUBLISHED.items()
        }
    )


def local_runtime(package: str | Path) -> Runtime:
    """Return the files of a folder of the package onnxruntime-web, to be copied beside the page.

    Without those of WebGPU, which are large, the page has WebAssembly alone. Raises ConfigError if
    those of WebAssembly are missing.
    """
    folders = (Path(package) / "dist", Path(package))
    engines: dict[str, tuple[RuntimeFile, ...]] = {}
    copies: list[Path] = []
    for engine, names in _PUBLISHED.items():
        paths = [next((f / name for f in folders if (f / name).is_file()), None) for name in names]
        found = [path for path in paths if path is not None]
        if len(found) == len(paths):
            engines[engine] = tuple(_beside_page(path) for path in found)
            copies += found
    if "wasm" not in engines:
        raise ConfigError(
            f"{package}: has not {' and '.join(_PUBLISHED['wasm'])}; name a folder of the npm "
            f"package {PACKAGE} {VERSION} or of files of its folder dist"
        )
    return Runtime(engines, tuple(copies))


def names() -> set[str]:
    """Return the names of all files that a page may have a copy of."""
    return {name for files in _PUBLISHED.values() for name in files}


def _beside_page(path: Path) -> RuntimeFile:
    digest = base64.b64encode(hashlib.sha384(read_bytes(path)).digest()).decode()
    return RuntimeFile(path.name, f"sha384-{digest}", (f"{FOLDER}/{path.name}",))
