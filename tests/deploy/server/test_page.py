"""The page of a server, in a browser: images in, boxes over them, JSON to copy."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fake_detectors import RedFinder
from setmatch.deploy.server.app import make_app
from setmatch.deploy.server.guard import App
from setmatch.inference.engines.base import Engine
from setmatch.inference.engines.eager import as_engine
from setmatch.structures.metadata import Categories

from .conftest import BOX, HOST, CalmFinder, image_bytes, served

TOKEN = "correct-horse-battery"
# Files that are dropped or pasted, from the content of the page's own choice.
DROP = """([bytes, kind]) => {
    const transfer = new DataTransfer();
    transfer.items.add(new File([new Uint8Array(bytes)], "dropped.png", { type: "image/png" }));
    const event = kind === "drop"
        ? new DragEvent("drop", { dataTransfer: transfer })
        : new ClipboardEvent("paste", { clipboardData: transfer });
    document.dispatchEvent(event);
}"""


class Opened:
    """A page of a server; what it logs as an error, or asks of other addresses, is a problem."""

    def __init__(self, page: Any, address: str) -> None:
        self.page, self.problems = page, []
        page.on("pageerror", lambda each: self.problems.append(str(each)))
        page.on("console", lambda each: self._note(each.type == "error", each.text))
        page.on("request", lambda each: self._note(not _is_of(each.url, address), each.url))
        page.set_default_timeout(60_000)
        page.goto(address)

    def _note(self, is_problem: bool, text: str) -> None:
        if is_problem:
            self.problems.append(text)

    def text(self, name: str) -> str:
        return str(self.page.inner_text(f"#{name}"))

    def until(self, condition: str) -> None:
        """Wait for an expression to be true. The page forbids playwright's own way, by eval."""
        for _ in range(1200):
            if self.page.evaluate(condition):
                return
            self.page.wait_for_timeout(50)
        raise AssertionError(f"{condition} stays false; {self.problems}")

    def look_at(self, act: Callable[[], Any]) -> dict[str, Any]:
        """Do what gives the page an image, and return what it found."""
        self.page.evaluate("state.detections = null")
        act()
        self.until("state.detections !== null")
        return dict(json.loads(self.text("json")))


def _is_of(url: str, address: str) -> bool:
    return url.startswith((address, "blob:", "data:"))


@contextmanager
def opened(browser: Any, app: App, width: int = 1400) -> Iterator[Opened]:
    with served(app) as running:
        context = browser.new_context(viewport={"width": width, "height": 900})
        context.grant_permissions(["camera", "clipboard-read", "clipboard-write"])
        site = Opened(context.new_page(), f"http://{HOST}:{running.port}/")
        yield site
        context.close()
    assert site.problems == []


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    path = tmp_path / "red.png"
    path.write_bytes(image_bytes())
    return path


@pytest.mark.parametrize("width", [1400, 400])
def test_images_are_chosen_dropped_and_pasted(browser: Any, app: App, photograph: Path, width: int):
    """Each way gives the same boxes; nothing is wider than the screen."""
    with opened(browser, app, width) as site:
        chosen = site.look_at(lambda: site.page.set_input_files("#file", photograph))
        (row,) = chosen["detections"]
        assert (row["name"], row["xyxy_px"]) == ("red", pytest.approx(BOX))
        for kind in ("drop", "paste"):
            given = [list(photograph.read_bytes()), kind]
            assert site.look_at(lambda given=given: site.page.evaluate(DROP, given)) == chosen
        assert site.text("count") == "1 object"
        assert site.page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_slider_and_the_classes_choose_what_is_shown(browser: Any, app: App, photograph: Path):
    """In boxes, counts and JSON; "Copy" copies that JSON."""
    with opened(browser, app) as site:
        found = site.look_at(lambda: site.page.set_input_files("#file", photograph))
        assert len(found["detections"]) == 1
        before = site.page.evaluate("$('boxes').toDataURL()")
        site.page.uncheck("#classes [data-class='0'] input")
        assert json.loads(site.text("json"))["detections"] == []
        assert site.page.evaluate("$('boxes').toDataURL()") != before
        site.page.click("#all")
        site.page.evaluate(
            "() => { $('threshold').value = 99; $('threshold').dispatchEvent(new Event('input')); }"
        )
        assert site.text("count") == "0 objects"
        site.page.click("#copy")
        site.until("$('copy').textContent === 'Copied'")
        copied = site.page.evaluate("navigator.clipboard.readText()")
        assert json.loads(copied) == {**found, "detections": []}


def test_several_images_are_listed(browser: Any, app: App, tmp_path: Path):
    """A click shows an earlier one again, without asking the server."""
    paths = []
    for number, box in enumerate([(0, 0, 32, 32), BOX]):
        paths.append(tmp_path / f"{number}.png")
        paths[-1].write_bytes(image_bytes(box))
    with opened(browser, app) as site:
        site.page.set_input_files("#file", paths)
        site.until("$('strip').children.length === 2")
        first = site.look_at(lambda: site.page.click("#strip button:first-child"))
        assert first["detections"][0]["xyxy_px"] == pytest.approx((0, 0, 32, 32))


def test_the_webcam_is_followed(browser: Any):
    """A second click stops it."""
    with opened(browser, make_app(as_engine(CalmFinder().eval()), "calm")) as site:
        site.page.click("#camera")
        site.until("$('speed').textContent.endsWith('frames/s')")
        site.page.click("#camera")
        assert site.text("camera") == "Webcam"


def test_what_the_server_refuses_is_said(browser: Any, red_finder: Engine, tmp_path: Path):
    app = make_app(red_finder, "red_finder", token=TOKEN)
    with opened(browser, app) as site:
        path = tmp_path / "red.png"
        path.write_bytes(image_bytes())
        site.page.set_input_files("#file", path)
        site.until("!$('problem').hidden")
        assert site.text("problem").startswith("red.png: send the token of this server")
        assert len(site.problems) == 1  # the browser's own line about the status 401
        site.problems.clear()
        site.page.fill("#token", TOKEN)
        site.page.set_input_files("#file", [])
        found = site.look_at(lambda: site.page.set_input_files("#file", path))
        assert len(found["detections"]) == 1
        assert site.page.evaluate("$('problem').hidden")


def test_hostile_class_names_are_only_text(browser: Any, photograph: Path):
    detector = RedFinder().eval()
    name = "</script><img src=x onerror=alert(1)>'\"&"
    detector.card = replace(detector.card, categories=Categories((3, 8), (name, "b")))
    with opened(browser, make_app(as_engine(detector), f"<b>{name}")) as site:
        site.look_at(lambda: site.page.set_input_files("#file", photograph))
        assert site.page.inner_text("#classes span >> nth=0") == name
        assert site.page.inner_text("h1") == f"<b>{name}"


@pytest.mark.thorough
def test_masks_are_drawn(browser: Any, app: App):
    """The decoder of run lengths, on a mask that COCO's own code encodes."""
    import numpy as np
    from pycocotools import mask

    pixels = np.zeros((50, 70), np.uint8)
    pixels[10:30, 20:60] = 1
    pixels[40:, :3] = 1
    runs = mask.encode(np.asfortranarray(pixels))
    response = {
        "height": 50,
        "width": 70,
        "detections": [{"mask": {"size": [50, 70], "counts": runs["counts"].decode()}}],
    }
    with opened(browser, app) as site:
        script = "(response) => [...masksOf(response).logits[0]]"
        cells = np.array(site.page.evaluate(script, response)).reshape(50, 70)
    assert ((cells > 0) == pixels).all()
