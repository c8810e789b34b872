"""A server on a real socket: connections that are slow, broken or too many end."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

import pytest

from fake_detectors import RedFinder
from setmatch.deploy.server.app import make_app
from setmatch.deploy.server.limits import Limits
from setmatch.inference.engines.base import Engine
from setmatch.inference.engines.eager import as_engine

from .conftest import image_bytes, served

PATIENCE_S = 0.2
LIMITS = Limits(
    patience_s=PATIENCE_S, linger_s=0.05, idle_s=PATIENCE_S, connections=3, max_bytes=100_000
)
LONG_S = 60  # for busy machines; nothing waits so long unless it fails
PATIENT = replace(LIMITS, patience_s=LONG_S, idle_s=LONG_S)
GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /v1/detect HTTP/1.1\r\nHost: x\r\n"


@contextmanager
def started(limits: Limits) -> Iterator[int]:
    app = make_app(as_engine(RedFinder().eval()), "red_finder", limits=limits)
    with served(app, limits) as running:
        yield running.port


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """The port of a server that waits for no client."""
    with started(LIMITS) as number:
        yield number


@pytest.fixture(scope="module")
def patient_port() -> Iterator[int]:
    """The port of a server that waits for clients, however busy the machine is."""
    with started(PATIENT) as number:
        yield number


@contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=LONG_S) as client:
        yield client


def rest_of(client: socket.socket) -> bytes:
    """All that comes until the server ends the connection."""
    received = b""
    try:
        while part := client.recv(65536):
            received += part
    except ConnectionResetError:
        pass
    return received


def one_response(client: socket.socket) -> tuple[int, dict[str, str]]:
    """The status and JSON of a response, after which the connection may stay open."""
    received = b""
    while b"\r\n\r\n" not in received or not received.endswith(b"}"):
        part = client.recv(65536)
        assert part, received
        received += part
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


def trickle(client: socket.socket, part: bytes) -> bytes:
    """Send a part every few milliseconds until the server has enough; return what it said."""
    client.setblocking(False)
    received, until = b"", time.monotonic() + LONG_S
    while time.monotonic() < until:
        try:
            client.send(part)
            if not (came := client.recv(65536)):
                return received
            received += came
        except BlockingIOError:
            pass
        except (ConnectionResetError, BrokenPipeError):
            return received
        time.sleep(PATIENCE_S / 20)
    raise AssertionError("the server still listens")


def response_to_trickle(port: int, head: bytes, part: bytes) -> bytes:
    """What the server says to a head whose body trickles.

    On a busy machine the head may come so late that the server has left without a word.
    """
    for _ in range(20):
        with connected(port) as client, suppress(ConnectionResetError, BrokenPipeError):
            client.sendall(head)
            if response := trickle(client, part):
                return response
    return b""


def test_one_connection_takes_several_requests(patient_port: int):
    with connected(patient_port) as client:
        for _ in range(3):
            client.sendall(GET)
            assert one_response(client) == (200, {"status": "ok"})


def test_a_connection_on_which_nothing_comes_ends(port: int):
    with connected(port) as client:
        assert rest_of(client) == b""


@pytest.mark.parametrize("first", [b"", GET])
def test_a_head_that_trickles_ends(port: int, first: bytes):
    """That of a second request, too."""
    with connected(port) as client:
        client.sendall(first)
        assert trickle(client, b"G").count(b"HTTP/1.1 200 ") <= bool(first)


@pytest.mark.parametrize(
    ("head", "part"),
    [
        (POST + b"Content-Length: 100000\r\n\r\n", b"x"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    ],
)
def test_a_body_that_trickles_ends(port: int, head: bytes, part: bytes):
    assert response_to_trickle(port, head, part).startswith(b"HTTP/1.1 408 ")


def test_a_body_that_nobody_reads_ends(port: int):
    head = b"POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"
    assert response_to_trickle(port, head, b"x").startswith(b"HTTP/1.1 404 ")


def test_the_response_about_a_body_that_is_too_large_is_seen(patient_port: int):
    """Though the client sends everything before it looks."""
    with connected(patient_port) as client:
        client.sendall(POST + b"Content-Length: 200000\r\n\r\n" + b"x" * 200_000)
        status, _, body = rest_of(client).partition(b"\r\n\r\n")
        assert b" 413 " in status
        assert b"larger than 100,000 bytes" in body


@pytest.mark.parametrize(
    "request_",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",  # no host
        b"GET / HTTP/1.1\r\nHost: x\r\nX: \0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 100_000,
        POST + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcd",
        POST + b"Content-Length: -1\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        POST + b"Transfer-Encoding: nonsense\r\n\r\nabcd",
    ],
)
def test_what_is_no_http_gets_json(patient_port: int, request_: bytes):
    with connected(patient_port) as client:
        client.sendall(request_)
        head, _, body = rest_of(client).partition(b"\r\n\r\n")
        assert int(head.split()[1]) in (400, 408, 501)
        assert list(json.loads(body)) == ["error"]


def test_a_connection_too_many_is_refused(patient_port: int):
    with (
        connected(patient_port),
        connected(patient_port),
        connected(patient_port),
        connected(patient_port) as client,
    ):
        response = rest_of(client)
    assert response.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: 1\r\n" in response


@pytest.mark.parametrize(
    "path",
    [
        b"/../../etc/passwd",
        b"/%2e%2e/%2e%2e/etc/passwd",
        b"/..%2f..%2fetc%2fpasswd",
        b"/..\\..\\etc\\passwd",
        b"//etc/passwd",
        b"/v1/../../etc/passwd",
        b"/%00/etc/passwd",
    ],
)
def test_no_path_leads_to_a_file(patient_port: int, path: bytes):
    with connected(patient_port) as client:
        client.sendall(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        assert one_response(client)[0] in (400, 404)


def test_a_client_that_does_not_read_its_response_is_dropped(red_finder: Engine):
    """The system's buffers are small here, so that the response does not fit into them."""
    limits = replace(LIMITS, max_bytes=Limits().max_bytes)
    app = make_app(red_finder, "red_finder", limits=limits)
    image = image_bytes((0, 0, 60, 60), (300, 300), noise=True)
    with served(app, limits, send_buffer=4096) as running, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", running.port))
        client.sendall(GET)
        one_response(client)  # the server knows of the connection
        head = b"POST /v1/detect?annotated=1 HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
        client.sendall(head % len(image) + image)
        until(lambda: not running.server.server_state.connections)


def test_accepted_requests_get_responses_before_the_server_ends(red_finder: Engine):
    """And a connection that waits for nothing is closed."""
    limits = Limits()
    app = make_app(red_finder, "red_finder", limits=limits)
    image = image_bytes()
    with served(app, limits) as running, connected(running.port) as idle:
        idle.sendall(GET)
        one_response(idle)
        with connected(running.port) as busy:
            busy.sendall(POST + b"Content-Length: %d\r\n\r\n" % len(image) + image[:10])
            until(lambda: len(running.server.server_state.tasks) == 1)
            running.server.should_exit = True
            assert rest_of(idle) == b""
            busy.sendall(image[10:])
            assert rest_of(busy).startswith(b"HTTP/1.1 200 ")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", running.port))


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + LONG_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
