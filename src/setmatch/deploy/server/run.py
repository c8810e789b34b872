"""`serve`: load a model, and serve it until a signal comes."""

import errno
import logging
import math
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from setmatch.data.images.decoding import chosen_pixel_limit
from setmatch.deploy.load import EngineName, load_on
from setmatch.deploy.server.app import make_app
from setmatch.deploy.server.connections import guarded_protocol
from setmatch.deploy.server.guard import App
from setmatch.deploy.server.libraries import require_libraries
from setmatch.deploy.server.limits import Limits, default_response_s
from setmatch.deploy.server.service import warm_up
from setmatch.distributed import init_distributed
from setmatch.errors import ConfigError, SetmatchError
from setmatch.files.reading import read_text
from setmatch.inference.engines.eager import as_engine
from setmatch.inference.tiles.engine import with_tiles
from setmatch.inference.tiles.views import OVERLAP, Tiles, images_at_once, require_overlap

if TYPE_CHECKING:
    import uvicorn

log = logging.getLogger("setmatch")
_BACKLOG = 1024  # connections that the system keeps until they are accepted
_LEAST_TOKEN = 16  # characters


class Stopped(SetmatchError):  # noqa: N818 - the user asked for it; it is not an error
    """A signal stopped the server; `exit_code` is 143 or 130."""

    def __init__(self, number: int) -> None:
        self.exit_code = 128 + number
        super().__init__(
            f"stopped by {signal.Signals(number).name}, after responding to all accepted requests"
        )


def serve(
    model: str | Path,
    *,
    engine: EngineName | None = "auto",
    host: str = "127.0.0.1",
    port: int = 8000,
    tiles: Tiles = None,
    overlap: float = OVERLAP,
    device: str = "auto",
    token: str | None = None,
    limits: Limits | None = None,
) -> None:
    """Detect objects in images that clients send, until SIGTERM or Ctrl-C, which raise Stopped.

    Accepted requests are completed first. Port 0 is any free one. Raises ConfigError for
    an address that cannot be used and options out of range, ExtraMissingError without FastAPI, and
    what `load` raises.
    """
    require_libraries()
    require_overlap(overlap)  # before an engine is written, which takes minutes
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it warns of malformed forms
    limits = limits or Limits(
        max_pixels=chosen_pixel_limit() or Limits.max_pixels,
        response_s=default_response_s(tiles is not None),
    )
    limits = replace(limits, batch=images_at_once(tiles, limits.batch))
    with _signals_as_errors(), opened(host, port) as opened_socket, init_distributed(device) as run:
        loaded = as_engine(load_on(model, run.device, engine))
        kind = type(loaded).__name__.removesuffix("Engine").lower()
        tiled = with_tiles(loaded, tiles, overlap)
        warm_up(tiled)
        name = Path(model).name if Path(model).exists() else str(model)
        app = make_app(tiled, name, engine_name=kind, limits=limits, token=token)
        place = address_of(opened_socket)
        if token is None and not is_local(opened_socket):
            log.warning(
                "%s can be reached from other machines, and asks for no token; --token-file names "
                "one",
                place,
            )
        server = server_of(app, limits, lambda: print(_ready(name, kind, place), flush=True))
        server.run(sockets=[opened_socket])


def server_of(
    app: App, limits: Limits, ready: Callable[[], None] = lambda: None
) -> "uvicorn.Server":
    """Return a server for an application; `ready` is called once it accepts requests.

    Its `run` ends at SIGTERM and Ctrl-C, or when its `should_exit` is set.
    """
    import uvicorn

    class Server(uvicorn.Server):
        """Says when it is ready."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            """Open the connections."""
            await super().startup(sockets)
            if self.started:
                ready()

    return Server(
        uvicorn.Config(
            app,
            http=guarded_protocol(limits),
            ws="none",
            lifespan="on",
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=_BACKLOG,
            timeout_keep_alive=math.ceil(limits.idle_s),
            timeout_graceful_shutdown=math.ceil(limits.patience_s + limits.response_s),
        )
    )


@contextmanager
def opened(host: str, port: int) -> Iterator[socket.socket]:
    """Yield a socket that is bound to an address, so that nobody else can take it meanwhile.

    Raises ConfigError for an address that cannot be used.
    """
    if not 0 <= port <= 65535:
        raise ConfigError(f"port {port}: ports are 0 to 65535")
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError):
        raise ConfigError(
            f"host {host}: there is no such address; 127.0.0.1 is this machine alone, and 0.0.0.0 "
            "all of its addresses"
        ) from None
    with socket.socket(family, kind, protocol) as made:
        if os.name == "posix":  # a server that was stopped a moment ago does not block its port
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind(place)
        except OSError as error:
            reason = _REASONS.get(error.errno or 0, error.strerror)
            raise ConfigError(f"port {port} of {host}: {reason}") from None
        yield made


_REASONS = {
    errno.EADDRINUSE: "another program uses it; end that program, or choose another with --port",
    errno.EACCES: "only administrators may use it; choose one from 1024 on with --port",
    errno.EADDRNOTAVAIL: "this machine has no such address; give one of its own with --host",
}


def address_of(opened_socket: socket.socket) -> str:
    """Return the address of a socket as a browser takes it."""
    host, port = opened_socket.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_local(opened_socket: socket.socket) -> bool:
    """Return whether only this machine reaches a socket."""
    return ip_address(opened_socket.getsockname()[0].partition("%")[0]).is_loopback


def read_token(path: Path) -> str:
    """Return the token in a file; raises ConfigError for one that is too short or has blanks."""
    token = read_text(path).strip()
    if len(token) < _LEAST_TOKEN or not (token.isascii() and token.isprintable()) or " " in token:
        raise ConfigError(
            f"{path}: a token is one line of at least {_LEAST_TOKEN} letters and digits; for "
            "example, from openssl rand -hex 32"
        )
    return token


def _ready(name: str, kind: str, place: str) -> str:
    return f"serving {name} ({kind}) at {place} until Ctrl-C: a page, and POST {place}/v1/detect"


@contextmanager
def _signals_as_errors() -> Iterator[None]:
    """Let SIGTERM and Ctrl-C raise Stopped; uvicorn sends itself what it received, at its end."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped(number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
