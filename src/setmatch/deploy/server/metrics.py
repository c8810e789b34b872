"""What a server counts, in the text format of Prometheus."""

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """Counters of one server; names of routes and reasons are few, whatever clients send."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self.requests = Counter(
            "setmatch_requests",
            "Requests, by status of the response",
            ["route", "status"],
            registry=self._registry,
        )
        self.request_s = Histogram(
            "setmatch_request_seconds",
            "Time from the head of a request to the end of its response",
            ["route"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.queue = Gauge(
            "setmatch_queue_images", "Images that wait or are detected in", registry=self._registry
        )
        self.batch = Histogram(
            "setmatch_batch_images",
            "Images that were detected in together",
            buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=self._registry,
        )
        self.batch_s = Histogram(
            "setmatch_batch_seconds",
            "Time of a batch in the model",
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.detections = Counter(
            "setmatch_detections", "Detections in responses", registry=self._registry
        )

    def text(self) -> bytes:
        """Return all counters as Prometheus reads them."""
        from prometheus_client import generate_latest

        return generate_latest(self._registry)


def content_type() -> str:
    """Return the type of the text format."""
    from prometheus_client import CONTENT_TYPE_LATEST

    return CONTENT_TYPE_LATEST
