"""`setmatch serve`: answer images with detections over HTTP."""

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
    timeout: float = 30.0,
) -> None:
    """Serve a model over HTTP: a page to drop images on, and JSON for programs.

    For example:

        setmatch serve runs/first
        curl --data-binary @street.jpg 127.0.0.1:8000/v1/detect

    POST /v1/detect takes the bytes of an image, or a form with one file. ?threshold=0.4 and
    ?classes=cat,dog choose detections; ?annotated=1 answers with an image. /v1/model describes the
    model, /healthz says that the server lives, /metrics counts for Prometheus, and /openapi.json
    describes it all. SIGTERM and Ctrl-C end the server once all accepted requests are answered.
    Images have up to 25 million pixels; --max-pixels sets another limit.

    Parameters
    ----------
    host
        Address to listen on. The default is for this machine alone; 0.0.0.0 is for the network.
    port
        Port to listen on; 0 for any that is free.
    token_file
        File with a token that clients must send: Authorization: Bearer TOKEN.
    max_batch
        Most images that run together.
    max_wait_ms
        Milliseconds that an image waits for others, if some are on their way.
    queue
        Images that may wait. Further ones get status 429 until there is room.
    max_mb
        Largest request, in megabytes.
    timeout
        Seconds until an image that still waits gets status 503.
    """
    from setmatch.data.images.decoding import chosen_pixel_limit
    from setmatch.deploy.server.limits import Limits
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
            answer_s=timeout,
        ),
    )
