"""ASGI middleware: no body is larger or slower than the limits allow, whatever reads it."""

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from setmatch.deploy.server.limits import Limits, Refusal
from setmatch.deploy.server.metrics import Metrics

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]
OTHER = "other"  # the label of all paths that there are not


@dataclass
class _Held:
    """How many bytes of bodies are in memory."""

    count: int = 0


class Guard:
    """Wraps an app: `receive` raises Refusal where a body breaks a limit.

    A response that is sent before its request is complete closes the connection. For that, what the
    client still sends is dropped for a moment: a client whose connection is closed while it sends
    does not see the response.
    """

    def __init__(self, app: App, limits: Limits, metrics: Metrics) -> None:
        self._app = app
        self._limits = limits
        self._metrics = metrics
        self._held = _Held()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Respond to a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        body = _Body(scope, receive, self._limits, self._held)
        response = _Response(body, send, self._limits)
        try:
            await self._app(scope, body.receive, response.send)
        finally:
            body.release()
            route = getattr(scope.get("route"), "path", OTHER)
            self._metrics.requests.labels(route, response.status).inc()
            self._metrics.request_s.labels(route).observe(time.perf_counter() - started)


class _Body:
    """The body of one request, as it comes."""

    def __init__(self, scope: Message, receive: Receive, limits: Limits, held: _Held) -> None:
        self._receive = receive
        self._limits = limits
        self._held = held
        self._declared = _content_length(scope)
        self._count = 0
        self._started_s = time.monotonic()
        self.is_whole = self._declared == 0 or (self._declared is None and not _is_chunked(scope))

    async def receive(self) -> Message:
        """Return the next message; raises Refusal for a body that is too large or slow."""
        if self.is_whole:
            return await self._receive()
        if (self._declared or 0) > self._limits.max_bytes:
            raise self._too_large()
        message = await self._in_time()
        if message["type"] != "http.request":
            return message
        size = len(message.get("body", b""))
        self._count += size
        self._held.count += size
        self.is_whole = not message.get("more_body", False)
        if self._count > self._limits.max_bytes:
            raise self._too_large()
        if self._held.count > self._limits.held_bytes:
            raise Refusal(429, "too much is being sent at a time: send the image again later", 1)
        return message

    async def drop_rest(self) -> None:
        """Read and forget what still comes, for a moment."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._limits.linger_s):
                while not self.is_whole:
                    message = await self._receive()
                    self.is_whole = not message.get("more_body", False)

    def release(self) -> None:
        """Forget the body."""
        self._held.count -= self._count

    async def _in_time(self) -> Message:
        limits = self._limits
        allowed_s = limits.patience_s + self._count / limits.least_bytes_per_s
        left_s = self._started_s + allowed_s - time.monotonic()
        try:
            async with asyncio.timeout(left_s):
                return await self._receive()
        except TimeoutError:
            raise Refusal(
                408,
                f"the request comes too slowly: less than {limits.least_bytes_per_s:,} bytes/s",
            ) from None

    def _too_large(self) -> Refusal:
        return Refusal(
            413, f"the request is larger than {self._limits.max_bytes:,} bytes: send a smaller one"
        )


class _Response:
    """The response to one request; its end waits until the client can see it."""

    def __init__(self, body: _Body, send: Send, limits: Limits) -> None:
        self._body = body
        self._send = send
        self._limits = limits
        self.status = "none"  # until there is one

    async def send(self, message: Message) -> None:
        """Send a part of the response."""
        if message["type"] == "http.response.start":
            self.status = str(message["status"])
            if not self._body.is_whole:
                message["headers"] = [*message.get("headers", []), (b"connection", b"close")]
        elif not (self._body.is_whole or message.get("more_body", False)):
            await self._send({**message, "more_body": True})
            await self._body.drop_rest()
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        await self._send(message)


def _content_length(scope: Message) -> int | None:
    text = dict(scope["headers"]).get(b"content-length", b"")
    return int(text) if text.isdigit() else None


def _is_chunked(scope: Message) -> bool:
    return b"transfer-encoding" in dict(scope["headers"])
