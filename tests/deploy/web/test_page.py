"""The page runs a model in a real browser, detects as setmatch does, and says how it checked."""

import base64
import dataclasses
import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import setmatch as sm
from setmatch.data.synthetic.scenes import scene
from setmatch.deploy.web.known_image import KnownImage
from setmatch.deploy.web.runtime import local_runtime
from setmatch.models.detector import Detector
from sites import OpenSite, Site, make_site, opened_sites

# In the campaign, because npm fetches 33 MB of runtime.
pytestmark = pytest.mark.campaign

TRANSFERRED = """(text) => {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const transfer = new DataTransfer();
    transfer.items.add(new File([bytes], "image.png", { type: "image/png" }));
    return transfer;
}"""
PASTE = "(data) => document.dispatchEvent(new ClipboardEvent('paste', { clipboardData: data }))"
COUNT_STREAMS = """() => {
    globalThis.streams = [];
    const devices = navigator.mediaDevices;
    const start = devices.getUserMedia.bind(devices);
    devices.getUserMedia = async (wish) => {
        const stream = await start(wish);
        streams.push(stream);
        return stream;
    };
}"""


@pytest.fixture(scope="module")
def opened(browser: Any, site: Path) -> Iterator[Site]:
    """The page, opened once: each test gives it an image of its own."""
    with opened_sites(browser) as open_site:
        yield open_site(site)


def give(site: Site, way: str, image: np.ndarray) -> None:
    """Give the page an image as a visitor does."""
    encoded = io.BytesIO()
    Image.fromarray(image).save(encoded, "PNG")
    if way == "choose":
        file = {"name": "image.png", "mimeType": "image/png", "buffer": encoded.getvalue()}
        site.look_at(lambda: site.page.set_input_files("#file", file))
        return
    text = base64.b64encode(encoded.getvalue()).decode()
    data = site.page.evaluate_handle(TRANSFERRED, text)
    if way == "drop":
        site.look_at(lambda: site.page.dispatch_event("#stage", "drop", {"dataTransfer": data}))
    else:
        site.look_at(lambda: site.page.evaluate(PASTE, data))


def test_the_page_detects_as_the_model(opened: Site, scenes_n: Detector):
    """Chosen, dropped or pasted images of several sizes; resized pixels differ by one at most."""
    assert opened.text("problem") == ""
    assert opened.text("check").startswith("checked: ")
    assert opened.text("engine") == "WebAssembly"
    images = {
        "choose": scene((1, 0), 300).pixels,  # shrunk
        "drop": scene((1, 1), 200).pixels[:, :90],  # upright
        "paste": scene((1, 2), 100).pixels[:60],  # enlarged
    }
    for way, image in images.items():
        give(opened, way, image)
        expected = sm.predict(scenes_n, image.copy(), threshold=0.3)
        given = [each for each in opened.detections() if each[1] > 0.3]
        assert len(given) == len(expected) > 0
        assert [each[0] for each in given] == expected.classes.tolist()
        assert np.allclose([each[1] for each in given], expected.scores, atol=0.03)
        assert np.allclose([each[2] for each in given], expected.xyxy_px, atol=0.3)
    assert opened.text("speed").endswith(" ms")
    assert opened.errors == []


def test_threshold_and_classes_choose_what_is_shown(opened: Site):
    """Without running the model again; the number of each class is shown. It fits a phone."""
    opened.page.set_viewport_size({"width": 400, "height": 900})
    give(opened, "choose", scene((1, 0), 300).pixels)
    for percent in (90, 30):
        opened.page.fill("#threshold", str(percent))
        rows = [each for each in opened.detections() if each[1] > percent / 100]
        assert opened.text("count").split()[0] == str(len(rows))
        counts = [int(text) for text in opened.page.locator("#classes b").all_inner_texts()]
        assert counts == [sum(each[0] == index for each in rows) for index in range(len(counts))]
    best = rows[0][0]
    opened.page.locator("#classes label").nth(best).click()
    assert opened.text("count").split()[0] == str(sum(each[0] != best for each in rows))
    opened.page.click("#none")
    assert opened.text("count") == "0 objects"
    opened.page.click("#all")
    assert opened.text("count").split()[0] == str(len(rows))
    assert opened.page.evaluate("document.documentElement.scrollWidth") == 400


def test_the_webcam_is_followed_until_it_is_stopped(opened: Site):
    """A fake device stands for it: the model runs on one frame after another."""
    opened.page.click("#camera")
    opened.wait_for("state.image.width === 640 && $('speed').textContent.endsWith('frames/s')")
    opened.page.evaluate("globalThis.before = state.image")
    opened.wait_for("state.image !== before")
    opened.page.click("#camera")
    assert opened.page.evaluate("state.camera") is None
    assert opened.text("camera") == "Webcam"
    assert opened.errors == []


def test_what_is_not_an_image_is_refused_in_one_line(opened: Site):
    """The next image is taken as usual."""
    file = {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no image"}
    opened.page.set_input_files("#file", file)
    opened.wait_for("!$('problem').hidden")
    assert "notes.txt: this browser cannot read it as an image" in opened.text("problem")
    give(opened, "choose", scene((1, 0), 100).pixels)
    assert opened.text("problem") == ""


def test_what_holds_no_file_is_said(opened: Site):
    """A link or a text that is dropped or pasted."""
    data = opened.page.evaluate_handle("new DataTransfer()")
    opened.page.evaluate("complain('')")
    opened.page.dispatch_event("#stage", "drop", {"dataTransfer": data})
    assert "holds no file" in opened.text("problem")
    opened.page.evaluate("complain('')")
    opened.page.evaluate(PASTE, data)
    assert "holds no file" in opened.text("problem")


def test_no_more_pixels_are_drawn_than_the_screen_shows(opened: Site):
    """Moving the threshold does not draw a large image again."""
    opened.page.set_viewport_size({"width": 400, "height": 900})
    give(opened, "choose", np.zeros((1500, 3000, 3), np.uint8))
    assert opened.page.evaluate("$('image').width") <= 400
    opened.page.evaluate("$('image').getContext('2d').clearRect(0, 0, 400, 200)")
    opened.page.fill("#threshold", "60")
    alpha = "$('image').getContext('2d').getImageData(9, 9, 1, 1).data[3]"
    assert opened.page.evaluate(alpha) == 0
    assert opened.text("threshold-value") == "0.60"


def test_a_webcam_is_started_once_and_an_image_meanwhile_takes_its_place(opened: Site):
    """A second stream would stay on, with the light of the webcam."""
    opened.page.evaluate(COUNT_STREAMS)
    opened.page.evaluate("$('camera').click(); $('camera').click()")
    opened.wait_for("state.camera !== null")
    assert opened.page.evaluate("streams.length") == 1
    opened.page.click("#camera")
    opened.page.evaluate("$('camera').click(); ++asked")  # as an image does that is chosen
    opened.wait_for("streams.length === 2 && !$('camera').disabled")
    assert opened.page.evaluate("state.camera") is None
    ended = "streams.every((each) => each.getTracks().every((t) => t.readyState === 'ended'))"
    assert opened.page.evaluate(ended)


def test_a_webcam_that_is_disconnected_is_said(opened: Site):
    opened.page.click("#camera")
    opened.wait_for("state.camera !== null")
    opened.page.evaluate("state.camera.getTracks()[0].dispatchEvent(new Event('ended'))")
    assert opened.text("problem") == "The webcam stopped: it was disconnected"
    assert opened.text("camera") == "Webcam"


def cut(page: str, place: str) -> str:
    """A page that lost half of its model, or all from there on."""
    start = page.index('id="model">') + len('id="model">')
    middle = start + (page.index("</script>", start) - start) // 8 * 4
    return page[:middle] + (page[page.index("</script>", start) :] if place == "model" else "")


@pytest.mark.parametrize(
    ("place", "problem"),
    [("model", "model in this page is damaged"), ("page", "not received whole")],
)
def test_what_was_not_received_whole_is_said(
    place: str, problem: str, open_site: OpenSite, site: Path, tmp_path: Path
):
    shutil.copytree(site, tmp_path / "site")
    page = tmp_path / "site/index.html"
    page.write_text(cut(page.read_text(), place))
    opened = open_site(tmp_path / "site")
    assert problem in opened.text("problem")
    assert opened.errors == []


def test_a_browser_without_web_assembly_is_told_so(open_site: OpenSite, site: Path):
    policy = "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' blob:; style-src *"
    headers = {"Content-Security-Policy": f"{policy} 'unsafe-inline'"}
    opened = open_site(site, headers=headers)
    assert opened.text("problem").startswith("WebAssembly does not run: ")
    assert [opened.text(name) for name in ("check", "speed", "count")] == ["–"] * 3


def test_a_file_that_is_dropped_early_does_not_take_the_place_of_the_page(
    open_site: OpenSite, site: Path, tmp_path: Path
):
    """Neither before the model is there, nor when it does not come."""
    shutil.copytree(site, tmp_path / "site")
    shutil.rmtree(tmp_path / "site/runtime")
    opened = open_site(tmp_path / "site")
    dropped = "(kind) => !document.dispatchEvent(new Event(kind, { cancelable: true }))"
    assert [opened.page.evaluate(dropped, kind) for kind in ("dragover", "drop")] == [True, True]


def test_a_wrong_detection_is_shown(
    open_site: OpenSite, network: Path, onnxruntime_web: Path, tmp_path: Path
):
    """The check can fail: here, because the known boxes lie elsewhere."""

    def moved(known: KnownImage) -> KnownImage:
        detections = known.detections
        boxes = dataclasses.replace(detections, xyxy_px=detections.xyxy_px + 0.5)
        return dataclasses.replace(known, detections=boxes)

    runtime = local_runtime(onnxruntime_web)
    opened = open_site(make_site(tmp_path / "site", network, runtime, moved))
    assert opened.text("check").startswith("check failed: 0.5 px")
    assert opened.page.get_attribute("#check", "class") == "bad"
