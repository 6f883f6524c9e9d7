"""What the service counts, in the form that Prometheus reads."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 60, 120, 300, 600, 1800)
OF = ("model", "task")  # model: the version number


class Metrics:
    """One registry per service: two in one process (tests) do not mix."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self._queue = Gauge("goku_serve_queue_length", "orders that wait", registry=registry)
        self._running = Gauge("goku_serve_running", "orders in work", registry=registry)
        self._ready = Gauge("goku_serve_ready", "1: a model is loaded and orders are taken", registry=registry)
        self.waiting = Histogram(
            "goku_serve_waiting_seconds", "from taken to begun", OF, buckets=SECONDS, registry=registry
        )
        self.drawing = Histogram(
            "goku_serve_drawing_seconds",
            "from begun to done, per picture or clip",
            OF,
            buckets=SECONDS,
            registry=registry,
        )
        self.taken = Counter("goku_serve_taken", "orders taken", OF, registry=registry)
        self.ended = Counter(
            "goku_serve_ended", "orders that ended: done, cancelled, or a fault's code", [*OF, "how"], registry=registry
        )
        self.refused = Counter("goku_serve_refused", "orders not taken, by code", ["code"], registry=registry)
        self.worker_starts = Counter("goku_serve_worker_starts", "workers started", registry=registry)

    def watch(self, queue: Callable[[], float], running: Callable[[], float], ready: Callable[[], float]) -> None:
        """Where the gauges are read when somebody asks."""
        for gauge, value in ((self._queue, queue), (self._running, running), (self._ready, ready)):
            gauge.set_function(value)

    def text(self) -> bytes:
        return generate_latest(self._registry)
