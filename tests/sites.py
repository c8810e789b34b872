"""Pages that run a model: written for a test, and opened from a server or a disk."""

import mimetypes
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import onnx

from setmatch.deploy.verification.verify import images_to_verify
from setmatch.deploy.web.known_image import KnownImage, known_image
from setmatch.deploy.web.network import exported_of
from setmatch.deploy.web.runtime import Runtime
from setmatch.deploy.web.site import write_site


def make_site(
    folder: Path,
    network: Path,
    runtime: Runtime,
    change: Callable[[KnownImage], KnownImage] = lambda known: known,
) -> Path:
    """Write a page for a network, with a generated image to check itself on."""
    known = change(known_image(network, images_to_verify(None)[0].pixels))
    folder.mkdir(parents=True)
    write_site(folder, network, exported_of(onnx.load(network)), known, runtime)
    return folder


HOST = "127.0.0.1"
READY = """() => {
    const find = (id) => document.getElementById(id);
    return find("speed").textContent.endsWith("ms") || !find("problem").hidden;
}"""


@dataclass(frozen=True)
class Site:
    """An open page; `errors` are what it raised or logged as an error."""

    page: Any
    errors: list[str]

    def text(self, name: str) -> str:
        """What an element shows."""
        return str(self.page.inner_text(f"#{name}"))

    def detections(self) -> list[tuple[int, float, list[float]]]:
        """Class index, score and box of all detections, best first."""
        script = """() => {
            const { scores, classes, boxes } = state.detections;
            const box = (n) => [...boxes.subarray(4 * n, 4 * n + 4)];
            return [...scores].map((score, n) => [classes[n], score, box(n)]);
        }"""
        return [tuple(each) for each in self.page.evaluate(script)]

    def wait_for(self, condition: str) -> None:
        """Wait until a JavaScript expression is true."""
        self.page.wait_for_function(condition)

    def look_at(self, act: Callable[[], Any]) -> None:
        """Do what gives the page an image, and wait for its detections."""
        self.page.evaluate("state.detections = null")
        act()
        self.wait_for("state.detections !== null")


OpenSite = Callable[..., Site]


class _Files(SimpleHTTPRequestHandler):
    """Serves the files of a folder with some more headers, and prints nothing."""

    def __init__(self, *request: Any, headers: dict[str, str], **settings: Any) -> None:
        self._headers = headers
        super().__init__(*request, **settings)

    def end_headers(self) -> None:
        for name, value in self._headers.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def served(folder: Path, headers: dict[str, str]) -> Iterator[str]:
    """Serve a folder to this machine, and yield its address."""
    handler = partial(_Files, directory=str(folder), headers=headers)
    with ThreadingHTTPServer((HOST, 0), handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://{HOST}:{server.server_port}/"
        server.shutdown()
        thread.join()


@contextmanager
def opened_sites(browser: Any) -> Iterator[OpenSite]:
    """Yield a function that opens a page, and waits until it is ready or gives up.

    A folder is served with `headers`; a file is opened as from a disk. `network` has the folder of
    each address of a network, which else nothing reaches.
    """
    with ExitStack() as stack:

        def open_site(
            place: Path,
            query: str = "",
            headers: dict[str, str] | None = None,
            network: dict[str, Path] | None = None,
            width: int = 1400,
        ) -> Site:
            context = stack.enter_context(browser.new_context(viewport=_viewport(width)))
            context.route(re.compile("^https:"), partial(_respond, network or {}))
            context.grant_permissions(["camera"])
            page, errors = context.new_page(), []
            page.on("pageerror", lambda each: errors.append(f"raised {each}"))
            page.on("console", lambda each: each.type == "error" and errors.append(each.text))
            page.set_default_timeout(120_000)  # for busy machines
            if place.is_dir():
                address = stack.enter_context(served(place, headers or {}))
            else:
                address = place.as_uri()
            page.goto(address + query)
            page.wait_for_function(READY)
            return Site(page, errors)

        yield open_site


def _viewport(width: int) -> dict[str, int]:
    return {"width": width, "height": 900}


def _respond(network: dict[str, Path], route: Any) -> None:
    """Respond to a request to a network with a file, if its folder has one."""
    parent, _, name = route.request.url.rpartition("/")
    path = network.get(parent, Path()) / name
    if parent in network and path.is_file():
        kind = mimetypes.guess_type(path)[0] or "application/octet-stream"
        headers = {"Access-Control-Allow-Origin": "*", "Content-Type": kind}
        route.fulfill(path=path, headers=headers)
    else:
        route.abort()
