"""The runtime of pages, and the page of a trained detector."""

import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest

from setmatch.deploy.web.network import ranking_network
from setmatch.deploy.web.runtime import PACKAGE, VERSION, local_runtime, names
from sites import OpenSite, make_site, opened_sites


@pytest.fixture(scope="session")
def onnxruntime_web(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the npm package that a page uses; npm fetches it once, 33 MB, and keeps it."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip(f"needs npm, which fetches {PACKAGE}")
    folder = tmp_path_factory.mktemp("npm")
    pack = [npm, "pack", f"{PACKAGE}@{VERSION}", "--prefer-offline", "--silent"]
    done = subprocess.run(pack, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"npm cannot fetch {PACKAGE}: {done.stderr.strip()}")
    (archive,) = folder.iterdir()
    with tarfile.open(archive) as opened:
        for name in names():
            opened.extract(f"package/dist/{name}", folder, filter="data")
    archive.unlink()
    return folder / "package"


@pytest.fixture(scope="session")
def network(scenes_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ONNX file inside the page of a trained detector of generated scenes."""
    path = tmp_path_factory.mktemp("network") / "model.onnx"
    onnx.save(ranking_network(onnx.load(scenes_onnx)), path)
    return path


@pytest.fixture(scope="session")
def site(network: Path, onnxruntime_web: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with the detector of generated scenes, and its own copy of the runtime."""
    folder = tmp_path_factory.mktemp("page") / "site"
    return make_site(folder, network, local_runtime(onnxruntime_web))


@pytest.fixture
def open_site(browser: Any) -> Iterator[OpenSite]:
    """Opens pages that run a model."""
    with opened_sites(browser) as open_site:
        yield open_site
