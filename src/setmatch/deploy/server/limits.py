"""How much a server accepts, and what it says to whoever asks for more."""

from dataclasses import dataclass

from setmatch.errors import ConfigError, SetmatchError

_RESPONSE_S, _TILED_RESPONSE_S = 30.0, 300.0


def default_response_s(in_tiles: bool) -> float:
    """Return how long a request may wait: an image in tiles takes as long as dozens of images."""
    return _TILED_RESPONSE_S if in_tiles else _RESPONSE_S


@dataclass(frozen=True)
class Limits:
    """How large, slow and many requests may be.

    An image has up to `max_bytes` as a file and up to `max_pixels`. `queue` images wait or are
    detected in at the same time; at most `batch` of one shape run together, for which the first
    waits up to `batch_wait_s`. A response takes up to `response_s` after the last byte of its
    request. The head of a request takes up to `patience_s`, its body so long and one second more
    for every `least_bytes_per_s`. A client that takes no byte of its response for `patience_s` is
    dropped, and so is one that is refused but keeps sending for `linger_s`. Up to `connections` are
    open, and an idle one for `idle_s`. All bodies that are held at a time have up to `held_bytes`.
    Raises ConfigError for values out of range.
    """

    max_bytes: int = 20_000_000
    max_pixels: int = 25_000_000
    queue: int = 64
    batch: int = 8
    batch_wait_s: float = 0.005
    response_s: float = _RESPONSE_S
    patience_s: float = 10.0
    linger_s: float = 2.0
    idle_s: float = 5.0
    least_bytes_per_s: int = 16_000
    held_bytes: int = 256_000_000
    connections: int = 1000

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            least = 0 if name in ("batch_wait_s", "linger_s") else 1e-3 if name[-2:] == "_s" else 1
            if not value >= least:
                raise ConfigError(f"{name} = {value}: must be at least {least}")
        if self.batch > self.queue:
            raise ConfigError(f"batch = {self.batch}: is larger than the queue of {self.queue}")


class Refusal(SetmatchError):  # noqa: N818 - it is a response, not a failure
    """A request that gets no detections: the HTTP status, and why in one sentence.

    `retry_after_s` says when the same request may succeed; None if it never does.
    """

    def __init__(self, status: int, message: str, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_s = retry_after_s

    @property
    def headers(self) -> dict[str, str]:
        """The HTTP headers that belong to the status."""
        headers = {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}
        return headers | ({"WWW-Authenticate": "Bearer"} if self.status == 401 else {})
