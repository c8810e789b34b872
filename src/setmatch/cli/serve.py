"""`setmatch serve`: detect objects in images that come over HTTP."""

from pathlib import Path

from setmatch.cli.options import Device, EngineName, Model, Overlap, Tiles


def serve(
    model: Model,
    /,
    *,
    engine: EngineName = "auto",
    host: str = "127.0.0.1",
    port: int = 8000,
    tiles: Tiles = None,
    overlap: Overlap = 0.2,
    device: Device = "auto",
    token_file: Path | None = None,
    max_batch: int = 8,
    max_wait_ms: float = 5.0,
    queue: int = 64,
    max_mb: float = 20.0,
    timeout: float | None = None,
) -> None:
    """Serve a model over HTTP: a page to drop images on, and JSON for programs.

    For example:

        setmatch serve runs/first
        curl --data-binary @street.jpg 127.0.0.1:8000/v1/detect

    POST /v1/detect takes the bytes of an image, or a form with one file. ?threshold=0.4 and
    ?classes=cat,dog choose detections; ?annotated=1 returns an image with boxes. /v1/model
    describes the model, /healthz is for health checks, /metrics is for Prometheus, and
    /openapi.json describes the API. SIGTERM and Ctrl-C stop the server after it has responded to
    all accepted requests. Images may have up to 25 million pixels; --max-pixels changes that.

    Parameters
    ----------
    host
        Address to listen on. 127.0.0.1 accepts only requests from this machine; 0.0.0.0 accepts
        them from the network.
    port
        Port to listen on, or 0 for any free port.
    token_file
        File with a token that clients must send: Authorization: Bearer TOKEN.
    max_batch
        Maximum number of images in a batch.
    max_wait_ms
        Milliseconds that a batch waits for images that are still arriving.
    queue
        Maximum number of waiting images. Further requests get status 429.
    max_mb
        Maximum size of a request, in megabytes.
    timeout
        Seconds after which a request that still waits gets status 503. Defaults to 30, and to 300
        with --tiles: an image in tiles takes as long as dozens of images.
    """
    from setmatch.data.images.decoding import chosen_pixel_limit
    from setmatch.deploy.server.limits import Limits, default_response_s
    from setmatch.deploy.server.run import read_token, serve

    serve(
        model,
        engine=engine,
        host=host,
        port=port,
        tiles=tiles,
        overlap=overlap,
        device=device,
        token=None if token_file is None else read_token(token_file),
        limits=Limits(
            max_bytes=round(1e6 * max_mb),
            max_pixels=chosen_pixel_limit() or Limits.max_pixels,
            queue=queue,
            batch=max_batch,
            batch_wait_s=max_wait_ms / 1000,
            response_s=default_response_s(tiles is not None) if timeout is None else timeout,
        ),
    )
