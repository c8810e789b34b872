"""The responses to images, options and everything else."""

import asyncio
import io
import json
import os
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import torch
from PIL import Image

from fake_detectors import RedFinder, red_box_image
from setmatch.deploy.server.app import make_app
from setmatch.deploy.server.guard import App
from setmatch.deploy.server.limits import Limits
from setmatch.inference.engines.base import Engine
from setmatch.inference.engines.eager import as_engine
from setmatch.inference.predict import predict
from setmatch.structures.batch import Batch
from setmatch.structures.metadata import Categories, ModelCard, Preprocessing

from .conftest import BOX, CalmFinder, get, image_bytes, post, with_client

FORM = "multipart/form-data; boundary=x"


def box_of(response: httpx.Response) -> list[float]:
    """The box of the best detection."""
    assert response.status_code == 200, response.text
    return response.json()["detections"][0]["xyxy_px"]


def test_the_response_is_that_of_predict(app: App, red_finder: Engine):
    found = predict(red_finder, red_box_image(64, 96, BOX))
    response = post(app, image_bytes()).json()
    (row,) = response.pop("detections")
    assert response == {"model": "red_finder", "width": 96, "height": 64}
    assert (row["name"], row["category_id"]) == ("red", 3)
    assert row["score"] == pytest.approx(found[0].score, abs=1e-5)
    assert row["xyxy_px"] == pytest.approx(found[0].xyxy_px, abs=1e-3)
    assert "mask" not in row


@pytest.mark.parametrize(
    "kind", ["application/x-www-form-urlencoded", "image/png", "text/plain", "", "IMAGE/JPEG"]
)
def test_a_body_is_the_image_whatever_its_type_says(app: App, kind: str):
    """The first is what curl says of --data-binary."""
    assert box_of(post(app, image_bytes(), headers={"Content-Type": kind})) == pytest.approx(BOX)


@pytest.mark.parametrize("field", ["image", "file", "anything"])
def test_a_form_has_the_image_as_its_file(app: App, field: str):
    files = {field: ("../../name.png", image_bytes(), "image/png")}
    response = with_client(app, lambda client: client.post("/v1/detect", files=files))
    assert box_of(response) == pytest.approx(BOX)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_seen_upright(app: App, orientation: int):
    """Boxes are in pixels of the upright image."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    response = post(app, image_bytes((0, 0, 32, 32), kind="JPEG", quality=95, exif=exif))
    left, top = {1: (0, 0), 2: (64, 0), 3: (64, 32), 4: (0, 32)}.get(orientation, (None, None))
    if orientation > 4:
        left, top = {5: (0, 0), 6: (32, 0), 7: (32, 64), 8: (0, 64)}[orientation]
    size = (96, 64) if orientation < 5 else (64, 96)
    assert (response.json()["width"], response.json()["height"]) == size
    assert box_of(response) == pytest.approx([left, top, left + 32, top + 32], abs=3)


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", ["red"]),
        ("?threshold=0", ["red", "red"]),
        ("?threshold=1", []),
        ("?threshold=0&classes=not%20red", []),
        ("?threshold=0&classes=0", ["red", "red"]),
        ("?threshold=0&classes=not%20red,red", ["red", "red"]),
        ("?threshold=0&classes=1&classes=red", ["red", "red"]),
        ("?annotated=0", ["red"]),
    ],
)
def test_options_choose_detections(app: App, query: str, names: list[str]):
    response = post(app, image_bytes(), f"/v1/detect{query}")
    assert [each["name"] for each in response.json()["detections"]] == names


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("?threshold=1.5", "threshold: give a score between 0 and 1, or best"),
        ("?threshold=nan", "threshold: give a score between 0 and 1, or best"),
        ("?threshold=high", "threshold: give a score between 0 and 1, or best"),
        ("?threshold=best", "threshold best: stub stores no best thresholds; training with a"),
        ("?classes=rad", "class 'rad': no such class; did you mean red?"),
        ("?classes=2", "class 2: class indices are 0 to 1"),
        ("?annotated=maybe", "annotated: input should be a valid boolean"),
        ("?treshold=0.1", "treshold: no such option; did you mean threshold?"),
        ("?url=http%3A%2F%2Fsomewhere", "url: no such option; known are"),
    ],
)
def test_an_option_that_there_is_not_is_refused(app: App, query: str, message: str):
    response = post(app, image_bytes(), f"/v1/detect{query}")
    assert response.status_code == 422
    assert response.json()["error"].startswith(message)


ODD_NAMES = [
    "b, c",
    " red",
    "red ",
    "  ",
    "\u2028",
    "a\nb",
    "\t",
    "\u202eabc",
    "\0",
    ",",
    "%2C",
    "a&b",
    "12",
]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_class_of_any_name_can_be_asked_for(name: str):
    detector = RedFinder().eval()
    detector.card = ModelCard("stub", {}, Categories((3, 8), (name, "a")), Preprocessing(64, 128))
    for wanted, found in ((quote(name), [name]), (quote(" a "), [])):
        app = make_app(as_engine(detector), "names")
        response = post(app, image_bytes(), f"/v1/detect?classes={wanted}")
        assert [each["name"] for each in response.json()["detections"]] == found


@pytest.mark.parametrize(
    "name", [b"caf\xe9.onnx", b"\xff", "\ud83d.onnx".encode(errors="surrogatepass")]
)
def test_a_model_file_of_any_name_is_served(red_finder: Engine, name: bytes):
    app = make_app(red_finder, os.fsdecode(name))
    for address in ("/", "/v1/model", "/openapi.json", "/healthz", "/metrics"):
        assert get(app, address).status_code == 200
    assert post(app, image_bytes()).json()["model"].isascii()


def test_an_annotated_image_has_the_box_drawn(app: App):
    response = post(app, image_bytes(), "/v1/detect?annotated=1")
    assert response.headers["content-type"] == "image/jpeg"
    drawn = Image.open(io.BytesIO(response.content))
    assert drawn.size == (96, 64)
    plain = Image.open(io.BytesIO(image_bytes()))
    assert drawn.getpixel((48, 47)) != pytest.approx(plain.getpixel((48, 47)), abs=40)


@pytest.mark.parametrize("size", [(65_500, 1), (1, 65_500), (65_501, 1), (1, 70_000)])
def test_an_image_longer_than_a_jpeg_can_be_is_answered_as_json_alone(size: tuple[int, int]):
    engine, content = as_engine(CalmFinder().eval()), image_bytes((0, 0, 1, 1), size)
    answer = post(make_app(engine, "long"), content).json()
    assert (answer["width"], answer["height"]) == size
    response = post(make_app(engine, "long"), content, "/v1/detect?annotated=1")
    if max(size) > 65_500:
        assert response.status_code == 422
        assert "a JPEG at most 65500 along a side" in response.json()["error"]
    else:
        assert Image.open(io.BytesIO(response.content)).size == size


@pytest.mark.parametrize(
    ("body", "headers", "status", "message"),
    [
        (b"", {}, 422, "the image is empty"),
        (b"no image", {}, 422, "not an image that can be read here"),
        (image_bytes()[:90], {}, 422, "the image cannot be read: "),
        (image_bytes(kind="JPEG")[:400], {}, 422, "the image cannot be read: "),
        (image_bytes(kind="PPM"), {}, 422, "not an image that can be read here"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", {}, 422, "not an image that can be read here"),
        (b"http://example.org/a.png", {}, 422, "not an image that can be read here"),
        (b"nothing", {"Content-Type": FORM}, 400, "invalid multipart data"),
        (b"--x--\r\n", {"Content-Type": FORM}, 422, "the form has no image"),
        (b"", {"Content-Type": "multipart/form-data"}, 400, "missing boundary in multipart"),
        (
            b'--x\r\nContent-Disposition: form-data; name="url"\r\n\r\nhttp://a\r\n--x--\r\n',
            {"Content-Type": FORM},
            422,
            "the form has 'url', which is not a file",
        ),
    ],
)
def test_what_is_no_image_is_refused_in_one_sentence(
    app: App, body: bytes, headers: dict[str, str], status: int, message: str
):
    response = post(app, body, headers=headers)
    assert response.status_code == status, response.text
    (text,) = response.json().values()
    assert text.startswith(message)
    assert "\n" not in text


def test_a_form_of_two_files_is_refused(app: App):
    files = [("image", image_bytes()), ("image", image_bytes())]
    response = with_client(app, lambda client: client.post("/v1/detect", files=files))
    assert (response.status_code, "error" in response.json()) == (400, True)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/detect", 405),
        ("DELETE", "/v1/detect", 405),
        ("GET", "/v1/nothing", 404),
        ("GET", "/docs", 404),
        ("GET", "/%2e%2e/%2e%2e/etc/passwd", 404),
        ("POST", "/", 405),
    ],
)
def test_other_addresses_respond_with_json(app: App, method: str, path: str, status: int):
    response = with_client(app, lambda client: client.request(method, path))
    assert response.status_code == status
    assert list(response.json()) == ["error"]


def test_the_model_is_described(app: App):
    facts = get(app, "/v1/model").json()
    assert facts["classes"] == [
        {"name": "red", "category_id": 3},
        {"name": "not red", "category_id": 8},
    ]
    assert (facts["model"], facts["engine"], facts["max_bytes"]) == (
        "red_finder",
        "eager",
        Limits().max_bytes,
    )
    assert get(app, "/healthz").json() == {"status": "ok"}


@pytest.mark.parametrize("path", ["/", "/healthz"])
def test_what_is_open_can_be_asked_for_its_head(app: App, path: str):
    """Some load balancers ask so whether the server is there."""
    response = with_client(app, lambda client: client.head(path))
    assert response.status_code == 200


def test_requests_are_counted(app: App):
    async def work(client: httpx.AsyncClient) -> str:
        await client.post("/v1/detect", content=image_bytes())
        await client.post("/v1/detect", content=b"no image")
        await client.get("/one/of/many/addresses")
        return (await client.get("/metrics")).text

    text = with_client(app, work)
    for line in (
        'setmatch_requests_total{route="/v1/detect",status="200"} 1.0',
        'setmatch_requests_total{route="/v1/detect",status="422"} 1.0',
        'setmatch_requests_total{route="other",status="404"} 1.0',
        "setmatch_batch_images_sum 1.0",
        "setmatch_detections_total 1.0",
        "setmatch_queue_images 0.0",
    ):
        assert line in text
    assert "many" not in text


class TestToken:
    TOKEN = "correct-horse-battery"

    @pytest.fixture
    def app(self, red_finder: Engine) -> App:
        return make_app(red_finder, "red_finder", token=self.TOKEN)

    @pytest.mark.parametrize("path", ["/v1/model", "/metrics"])
    def test_facts_and_metrics_need_it(self, app: App, path: str):
        assert get(app, path).status_code == 401
        sent = {"Authorization": f"Bearer {self.TOKEN}"}
        assert get(app, path, headers=sent).status_code == 200

    @pytest.mark.parametrize("path", ["/", "/healthz", "/openapi.json"])
    def test_the_rest_does_not(self, app: App, path: str):
        assert get(app, path).status_code == 200

    @pytest.mark.parametrize(
        "header",
        [None, "", "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer ü"],
    )
    def test_detection_refuses_another(self, app: App, header: str | None):
        headers = {} if header is None else {"Authorization": header.encode("latin-1")}
        response = post(app, image_bytes(), headers=headers)
        assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
        assert response.json()["error"].startswith("send the token of this server")

    def test_detection_takes_it(self, app: App):
        sent = {"Authorization": f"Bearer {self.TOKEN}"}
        assert post(app, image_bytes(), headers=sent).status_code == 200


def test_many_images_at_once_are_not_mixed(app: App):
    """Each of several shapes and places, some of which cannot be read, gets its own response."""
    places = [(8 * n, 4 * n, 8 * n + 16, 4 * n + 16) for n in range(8)]
    sizes = [(96, 64), (64, 96), (128, 128)]
    images = [(box, size) for box in places for size in sizes if box[2] <= size[0]]

    async def work(client: httpx.AsyncClient) -> list[httpx.Response]:
        bodies = []
        for box, size in images:
            bodies += [image_bytes(box, size), image_bytes(box, size)[:70]]
        sent = [client.post("/v1/detect", content=body) for body in bodies]
        return await asyncio.gather(*sent)

    responses = with_client(app, work)
    assert {each.status_code for each in responses[1::2]} == {422}
    for (box, size), response in zip(images, responses[::2], strict=True):
        assert box_of(response) == pytest.approx(box, abs=2.5)
        assert (response.json()["width"], response.json()["height"]) == size


class _Careless(RedFinder):
    """Predicts numbers that are not finite for an image without red."""

    def detect(self, batch: Batch, sizes_px: Any) -> Any:
        output = super().detect(batch, sizes_px)
        red = (batch.pixels[:, 0] > 1) & (batch.pixels[:, 1] < 0)
        for has_red, found in zip(red.flatten(1).any(1), output.detections, strict=True):
            if not has_red:
                found.scores.fill_(torch.nan)
        return output


def test_one_bad_image_does_not_fail_its_batch_mates():
    """The model fails at one image of a batch; it alone gets an error."""
    app = make_app(as_engine(_Careless().eval()), "careless")
    empty = image_bytes((0, 0, 0, 0))

    async def work(client: httpx.AsyncClient) -> list[httpx.Response]:
        bodies = [image_bytes(), empty, image_bytes(), image_bytes()]
        return await asyncio.gather(*[client.post("/v1/detect", content=body) for body in bodies])

    responses = with_client(app, work)
    assert [each.status_code for each in responses] == [200, 500, 200, 200]
    assert "not finite" in responses[1].json()["error"]


def test_an_unexpected_error_gets_a_response_too(capsys):
    class Broken(RedFinder):
        def detect(self, batch: Batch, sizes_px: Any) -> Any:
            raise KeyError("a secret")

    response = post(make_app(as_engine(Broken().eval()), "broken"), image_bytes())
    assert response.status_code == 500
    assert response.json() == {"error": "the server failed, and its log says why"}


@pytest.mark.parametrize("kind", ["image/jpeg", "multipart/form-data; boundary=next"])
def test_a_client_that_goes_away_while_it_sends_is_no_error_of_the_server(app: App, kind: str):
    """Nothing is raised, which the log would show as a failure of many lines."""
    parts = iter([{"type": "http.request", "body": b"--next\r\n", "more_body": True}])
    sent = []

    async def receive() -> Any:
        return next(parts, {"type": "http.disconnect"})

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-type", kind.encode()), (b"content-length", b"1000")]
    scope = {"type": "http", "method": "POST", "path": "/v1/detect", "headers": headers}
    asyncio.run(app(scope | {"query_string": b"", "asgi": {"version": "3.0"}}, receive, send))
    assert sent[0]["status"] == 499


def test_the_document_describes_the_responses(app: App):
    document = get(app, "/openapi.json").json()
    assert set(document["paths"]) == {"/v1/detect", "/v1/model", "/healthz"}
    detect = document["paths"]["/v1/detect"]["post"]
    assert set(detect["requestBody"]["content"]) == {"image/*", "multipart/form-data"}
    assert set(detect["responses"]) >= {"200", "401", "408", "413", "422", "429", "503"}
    assert {each["name"] for each in detect["parameters"]} == {"threshold", "classes", "annotated"}
    assert "HTTPValidationError" not in json.dumps(document)


def test_the_page_may_load_nothing_from_elsewhere(app: App, red_finder: Engine):
    """Its scripts run by a number that is new in each server; the page has no others."""
    response = get(app, "/")
    policy = response.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'nonce-")
    assert "connect-src 'self'" in policy
    assert "http" not in policy
    assert response.text.count("<script") == response.text.count('nonce="') == 2
    other = get(make_app(red_finder, "red_finder"), "/")
    assert other.headers["content-security-policy"] != policy
