"""Servers of a detector of red pixels, in this process."""

import asyncio
import io
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import httpx
import numpy as np
import pytest
from PIL import Image

from fake_detectors import RedFinder
from setmatch.deploy.server.app import make_app
from setmatch.deploy.server.guard import App
from setmatch.deploy.server.limits import Limits
from setmatch.deploy.server.run import opened, server_of
from setmatch.inference.engines.base import Engine
from setmatch.inference.engines.eager import as_engine
from setmatch.structures.batch import Batch

Value = TypeVar("Value")
Box = tuple[int, int, int, int]
BOX: Box = (32, 16, 64, 48)
HOST = "127.0.0.1"


class CalmFinder(RedFinder):
    """Finds a box in images without red, too, for which the other divides by zero."""

    def forward(self, batch: Batch) -> Any:
        (group,) = super().forward(batch)
        predictions = group.predictions
        finite = replace(predictions, cxcywh=predictions.cxcywh.nan_to_num(0.5))
        return (replace(group, predictions=finite),)


@pytest.fixture
def red_finder() -> Engine:
    """Finds the box around the red pixels of an image."""
    return as_engine(RedFinder().eval())


@pytest.fixture
def app(red_finder: Engine) -> App:
    """The application of the detector of red pixels."""
    return make_app(red_finder, "red_finder")


def image_bytes(
    box: Box = BOX,
    size: tuple[int, int] = (96, 64),
    kind: str = "PNG",
    noise: bool = False,
    **saving: Any,
) -> bytes:
    """Return the file of a gray image (width, height) with a red box."""
    pixels = np.full((size[1], size[0], 3), 120, np.uint8)
    if noise:
        pixels = np.random.default_rng(0).integers(0, 200, pixels.shape, dtype=np.uint8)
    x0, y0, x1, y1 = box
    pixels[y0:y1, x0:x1] = (255, 0, 0)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **saving)
    return file.getvalue()


def with_client(app: App, work: Callable[[httpx.AsyncClient], Awaitable[Value]]) -> Value:
    """Run some work with a client of an application, in an event loop of its own."""

    async def run() -> Value:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await work(client)

    return asyncio.run(run())


def post(app: App, content: Any = b"", path: str = "/v1/detect", **request: Any) -> httpx.Response:
    """Send one request to an application."""
    return with_client(app, lambda client: client.post(path, content=content, **request))


def get(app: App, path: str, **request: Any) -> httpx.Response:
    """Ask an application for an address."""
    return with_client(app, lambda client: client.get(path, **request))


@dataclass(frozen=True)
class Served:
    """A server that runs in a thread."""

    port: int
    server: Any  # of uvicorn


@contextmanager
def served(app: App, limits: Limits | None = None, send_buffer: int = 0) -> Iterator[Served]:
    """Serve an application to this machine.

    `send_buffer` limits the bytes that the system takes before a client reads them.
    """
    with opened(HOST, 0) as socket_:
        if send_buffer:
            socket_.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        is_ready = threading.Event()
        server = server_of(app, limits or Limits(), is_ready.set)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [socket_]})
        thread.start()
        assert is_ready.wait(60)
        yield Served(socket_.getsockname()[1], server)
        server.should_exit = True
        thread.join()
