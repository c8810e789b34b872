"""Nobody gets more than the limits allow, and everybody learns why."""

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from fake_detectors import RedFinder
from setmatch.deploy.server.app import make_app
from setmatch.deploy.server.guard import App
from setmatch.deploy.server.limits import Limits
from setmatch.errors import ConfigError
from setmatch.inference.engines.base import Engine
from setmatch.inference.engines.eager import as_engine
from setmatch.structures.batch import Batch

from .conftest import image_bytes, post, with_client

FAST = {"linger_s": 0.01}


class Held(RedFinder):
    """Detects once it is allowed to."""

    def __init__(self) -> None:
        super().__init__()
        self.may_go_on, self.has_begun = threading.Event(), threading.Event()
        self.detected = 0

    def detect(self, batch: Batch, sizes_px: Any) -> Any:
        self.has_begun.set()
        assert self.may_go_on.wait(60)
        self.detected += len(sizes_px)
        return super().detect(batch, sizes_px)


@pytest.fixture
def held() -> Held:
    return Held().eval()  # type: ignore[return-value]


def limited(engine: Engine, **limits: Any) -> App:
    return make_app(engine, "limited", limits=Limits(**{**FAST, **limits}))


async def begun(held: Held) -> None:
    while not held.has_begun.is_set():
        await asyncio.sleep(0.001)


class Parts:
    """A body in parts, of which one knows how many were taken."""

    def __init__(self, part: bytes, count: int, pause_s: float = 0.0) -> None:
        self.part, self.count, self.pause_s, self.taken = part, count, pause_s, 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for _ in range(self.count):
            self.taken += 1
            yield self.part
            await asyncio.sleep(self.pause_s)


def test_a_body_that_says_it_is_too_large_is_not_read(red_finder: Engine):
    """The client may send it, but nothing takes it."""
    app = limited(red_finder, max_bytes=1000, linger_s=0)
    body = Parts(b"x" * 100, 1000)
    response = post(app, body, headers={"Content-Length": "100000"})
    assert response.status_code == 413
    assert response.json()["error"].startswith("the request is larger than 1,000 bytes")
    assert response.headers["connection"] == "close"
    assert body.taken <= 1


def test_a_body_without_a_length_is_read_up_to_the_limit(red_finder: Engine):
    app = limited(red_finder, max_bytes=1000, linger_s=0)
    body = Parts(b"x" * 100, 100_000)
    response = post(app, body)
    assert response.status_code == 413
    assert body.taken < 20


@pytest.mark.parametrize("size", [999, 1000, 1001])
@pytest.mark.parametrize("is_form", [True, False])
def test_the_limit_is_exact(red_finder: Engine, size: int, is_form: bool):
    """Forms are measured as a whole."""
    app = limited(red_finder, max_bytes=1000)
    head = b'--x\r\nContent-Disposition: form-data; name="a"; filename="a"\r\n\r\n'
    body = head.ljust(size - 9, b"x") + b"\r\n--x--\r\n" if is_form else b"x" * size
    kind = "multipart/form-data; boundary=x" if is_form else "image/png"
    response = post(app, body[:size], headers={"Content-Type": kind})
    assert response.status_code == (413 if size > 1000 else 422)


def test_a_body_that_comes_too_slowly_is_refused(red_finder: Engine):
    """One byte each hundredth of a second, where at least 16,000 a second should come."""
    app = limited(red_finder, patience_s=0.1)
    response = post(app, Parts(b"x", 100_000, pause_s=0.01))
    assert response.status_code == 408
    assert response.headers["connection"] == "close"


def test_a_body_that_comes_slowly_enough_is_taken(red_finder: Engine):
    """It takes longer than the patience, but its rate is high enough."""
    image = image_bytes()
    parts = [image[n : n + 20] for n in range(0, len(image), 20)]

    class InParts(Parts):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            for part in parts:
                yield part
                await asyncio.sleep(0.01)

    app = limited(red_finder, patience_s=0.05, least_bytes_per_s=1)
    assert post(app, InParts(b"", 0)).status_code == 200


def test_all_bodies_together_are_limited(red_finder: Engine):
    """The first ones are held; the next is refused, and later there is room again."""
    app = limited(red_finder, held_bytes=5000)
    go_on, taken = asyncio.Event(), asyncio.Semaphore(0)

    async def waiting(size: int) -> AsyncIterator[bytes]:
        yield b"x" * size
        taken.release()
        await go_on.wait()

    async def work(client: httpx.AsyncClient) -> list[int]:
        kept = [
            asyncio.create_task(client.post("/v1/detect", content=waiting(2000))) for _ in range(2)
        ]
        for _ in kept:
            await taken.acquire()
        refused = await client.post("/v1/detect", content=b"x" * 2000)
        assert refused.headers["retry-after"] == "1"
        go_on.set()
        await asyncio.gather(*kept)
        later = await client.post("/v1/detect", content=b"x" * 2000)
        return [refused.status_code, later.status_code]

    assert with_client(app, work) == [429, 422]


def test_a_full_queue_responds_at_once(held: Held):
    """With the status 429, and when to come again; who is inside gets a response."""
    app = limited(as_engine(held), queue=3, batch=1, linger_s=0)

    async def work(client: httpx.AsyncClient) -> None:
        inside = [
            asyncio.create_task(client.post("/v1/detect", content=image_bytes())) for _ in range(3)
        ]
        await begun(held)
        body = Parts(b"x", 1000)
        refused = await client.post("/v1/detect", content=body)
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert body.taken <= 1
        held.may_go_on.set()
        assert [each.status_code for each in await asyncio.gather(*inside)] == [200] * 3
        assert (await client.post("/v1/detect", content=image_bytes())).status_code == 200

    with_client(app, work)


def test_a_response_that_takes_too_long_is_refused(held: Held):
    """Its place is free again, and the image that nobody waits for is not run."""
    limits = Limits(**{**FAST, "response_s": 0.05, "batch": 1})
    app = make_app(as_engine(held), "limited", limits=limits)

    async def work(client: httpx.AsyncClient) -> None:
        sent = [client.post("/v1/detect", content=image_bytes()) for _ in range(3)]
        for response in await asyncio.gather(*sent):
            assert response.status_code == 503
            assert int(response.headers["retry-after"]) >= 1
        object.__setattr__(limits, "response_s", 600.0)  # however slow the machine is
        held.may_go_on.set()
        assert (await client.post("/v1/detect", content=image_bytes())).status_code == 200
        assert "setmatch_queue_images 0.0" in (await client.get("/metrics")).text

    with_client(app, work)
    assert held.detected == 2  # the first, which ran already, and the last


def test_a_client_that_leaves_makes_room(held: Held):
    app = limited(as_engine(held), queue=1, batch=1)
    messages: list[Any] = []

    async def run() -> None:
        gone = asyncio.Event()
        parts = [{"type": "http.request", "body": image_bytes(), "more_body": False}]

        async def receive() -> Any:
            if parts:
                return parts.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            messages.append(message)

        scope = {"type": "http", "method": "POST", "path": "/v1/detect", "query_string": b""}
        headers = [(b"content-length", b"%d" % len(image_bytes()))]
        work = asyncio.create_task(app({**scope, "headers": headers}, receive, send))
        await begun(held)
        gone.set()
        await work
        held.may_go_on.set()

    asyncio.run(run())
    assert messages[0]["status"] == 499


@pytest.mark.parametrize(
    "limits",
    [
        {"queue": 0},
        {"batch": 0},
        {"batch": 9, "queue": 8},
        {"max_bytes": 0},
        {"response_s": 0},
        {"patience_s": -1},
        {"batch_wait_s": -0.1},
        {"response_s": float("nan")},
    ],
)
def test_limits_that_make_no_sense_are_refused(limits: dict[str, Any]):
    with pytest.raises(ConfigError, match=next(iter(limits))):
        Limits(**limits)
