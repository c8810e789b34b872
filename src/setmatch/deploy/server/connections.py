"""The connections of a server: none is slow or idle for long, and there are not too many."""

import asyncio
import json
from typing import TYPE_CHECKING

from setmatch.deploy.server.limits import Limits
from setmatch.deploy.server.problems import problem_json

if TYPE_CHECKING:
    from uvicorn.protocols.http.h11_impl import H11Protocol

_MALFORMED = "this is not a valid HTTP request"
_TOO_MANY = "there are too many connections: send the request again later"


def guarded_protocol(limits: Limits) -> "type[H11Protocol]":
    """Return the protocol of a server whose connections are limited.

    uvicorn's own waits for the head of a request, and for a client to read its response, forever.
    """
    import h11
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class GuardedProtocol(H11Protocol):
        """Ends a connection whose client stalls; everything else is uvicorn's."""

        _deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            """Begin to wait for the head of a request."""
            super().connection_made(transport)
            if len(self.connections) > limits.connections:
                transport.write(_plain_response(503, _TOO_MANY, "Retry-After: 1\r\n"))
                transport.close()
            self._wait(limits.patience_s)

        def connection_lost(self, exc: Exception | None) -> None:
            """Forget the connection."""
            self._stop_waiting()
            super().connection_lost(exc)

        def handle_events(self) -> None:
            """Stop waiting when the head of a request is there."""
            before = self.cycle
            super().handle_events()
            if self.cycle is not before:
                self._stop_waiting()

        def on_response_complete(self) -> None:
            """Wait until the client has read the response and sends its next request."""
            self._wait(limits.idle_s + limits.patience_s)
            super().on_response_complete()

        def pause_writing(self) -> None:
            """Wait until the client reads."""
            self._wait(limits.patience_s)
            super().pause_writing()

        def resume_writing(self) -> None:
            """Stop waiting for the client to read, unless this was the end of the response."""
            if self.cycle is not None and not self.cycle.response_complete:
                self._stop_waiting()
            super().resume_writing()

        def send_400_response(self, msg: str) -> None:
            """Respond to what is not HTTP, unless a response has begun."""
            if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                self.transport.write(_plain_response(400, _MALFORMED))
                self.transport.close()
            else:
                self.transport.abort()

        def _wait(self, seconds: float) -> None:
            self._stop_waiting()
            self._deadline = self.loop.call_later(seconds, self.transport.abort)

        def _stop_waiting(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

    return GuardedProtocol


def _plain_response(status: int, text: str, headers: str = "") -> bytes:
    """Return a whole response for a connection that has no request."""
    body = json.dumps(problem_json(text)).encode()
    head = (
        f"HTTP/1.1 {status} \r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n{headers}\r\n"
    )
    return head.encode() + body
