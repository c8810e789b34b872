"""Pages load the very runtime that they were written for, from a network, a server or a disk."""

from pathlib import Path
from typing import Any

import pytest

from browser import launched
from setmatch.deploy.web.runtime import local_runtime, published_runtime
from setmatch.errors import ConfigError
from sites import OpenSite, make_site, opened_sites

# In the campaign, because npm fetches 33 MB of runtime.
pytestmark = pytest.mark.campaign

# Threads need memory that workers share, which a browser allows in isolated pages alone.
ISOLATED = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
}
# They have WebGPU without a graphics card.
SOFTWARE_GPU = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader")


def networks() -> list[str]:
    """The addresses from which a page loads the runtime, the first ones first."""
    (script, _) = published_runtime().engines["wasm"]
    return [address.removesuffix(f"/{script.name}") for address in script.addresses]


def test_hashes_are_those_of_the_published_files(onnxruntime_web: Path):
    """Else no browser would take them."""
    published, local = published_runtime(), local_runtime(onnxruntime_web)
    for engine, files in published.engines.items():
        assert [each.integrity for each in files] == [
            each.integrity for each in local.engines[engine]
        ]


def test_a_page_from_a_disk_loads_the_runtime_from_a_network(
    open_site: OpenSite, network: Path, onnxruntime_web: Path, tmp_path: Path
):
    """The second of two addresses serves if the first does not."""
    page = make_site(tmp_path / "site", network, published_runtime()) / "index.html"
    assert [each.name for each in page.parent.iterdir()] == ["index.html"]
    opened = open_site(page, network={networks()[1]: onnxruntime_web / "dist"})
    assert opened.text("check").startswith("checked: ")
    assert opened.text("problem") == ""


def test_an_altered_runtime_is_refused(
    open_site: OpenSite, network: Path, onnxruntime_web: Path, tmp_path: Path
):
    """What the network gives must have the hash in the page."""
    (script, _) = published_runtime().engines["wasm"]
    text = (onnxruntime_web / "dist" / script.name).read_text("utf-8")
    (tmp_path / script.name).write_text(text + "\n", encoding="utf-8")
    page = make_site(tmp_path / "site", network, published_runtime()) / "index.html"
    opened = open_site(page, network=dict.fromkeys(networks(), tmp_path))
    assert "of the runtime could not be loaded" in opened.text("problem")
    assert [each for each in opened.errors if script.name in each and "integrity" in each]
    assert opened.text("engine") == "The model does not run in this browser."


def test_a_page_beside_its_runtime_says_how_to_open_it(open_site: OpenSite, site: Path):
    """A browser lets no page from a disk read files."""
    opened = open_site(site / "index.html")
    assert "Serve its folder: python -m http.server --directory" in opened.text("problem")


def test_an_isolated_page_computes_with_threads(open_site: OpenSite, site: Path):
    """They start, and predict the same; how many depends on the machine."""
    opened = open_site(site, headers=ISOLATED)
    assert opened.page.evaluate("crossOriginIsolated")
    assert opened.text("check").startswith("checked: ")


def test_webgpu_predicts_the_same(browser: Any, site: Path):
    """In software, which takes a minute; so it is not chosen by itself."""
    with launched(browser.browser_type, SOFTWARE_GPU) as own, opened_sites(own) as open_site:
        opened = open_site(site, "?engine=webgpu")
        assert opened.text("engine") == "WebGPU"
        assert opened.text("check").startswith("checked: ")
        assert open_site(site).text("engine") == "WebAssembly"


def test_a_runtime_without_webgpu_is_enough(onnxruntime_web: Path, tmp_path: Path):
    """Its program is the larger one."""
    dist = onnxruntime_web / "dist"
    for name in ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"):
        (tmp_path / name).symlink_to(dist / name)
    runtime = local_runtime(tmp_path)
    assert list(runtime.engines) == ["wasm"]
    assert [each.name for each in runtime.copies] == [each.name for each in tmp_path.iterdir()]


@pytest.mark.parametrize("missing", ["ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"])
def test_a_folder_without_the_runtime_is_refused(tmp_path: Path, missing: str):
    """The message names the files and the package."""
    for name in {"ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"} - {missing}:
        (tmp_path / name).write_text("")
    with pytest.raises(ConfigError, match=r"ort.wasm.bundle.min.mjs.* onnxruntime-web 1\."):
        local_runtime(tmp_path)
