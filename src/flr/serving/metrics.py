"""What Prometheus reads at /metrics."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from flr.serving.engine import Engine

_SECONDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """Counts requests, and asks the engine when it is asked itself.

    Args:
        engine: Whose counts and catalogue are shown.
    """

    def __init__(self, engine: Engine) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "flr_http_requests", "Requests answered.", ("method", "route", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "flr_http_request_seconds", "Time to answer.", ("route",), buckets=_SECONDS, registry=self._registry
        )
        self._registry.register(_EngineCollector(engine))

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request."""
        known = method if method in {"GET", "POST", "DELETE", "HEAD", "OPTIONS"} else "other"
        self._requests.labels(known, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self._registry)


class _EngineCollector(Collector):
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterable[Metric]:
        engine = self._engine
        counts, cache, live = engine.counts, engine.cache, engine.recommender.snapshot.live
        yield GaugeMetricFamily("flr_ready", "Whether questions are taken.", float(engine.is_ready))
        yield GaugeMetricFamily("flr_queued_histories", "Histories that wait.", engine.n_queued)
        yield GaugeMetricFamily("flr_catalogue_items", "Items that are recommended.", live.n_recommended)
        yield GaugeMetricFamily(
            "flr_catalogue_removed_items", "Items that were removed and are kept.", live.catalogue.n_retired
        )
        yield GaugeMetricFamily("flr_cache_tokens", "Tokens whose reading is kept.", cache.n_tokens)
        for name, what, value in (
            ("questions", "Questions computed.", counts.questions),
            ("histories", "Histories computed.", counts.histories),
            ("batches", "Batches computed.", counts.batches),
            ("cancelled", "Questions dropped because the client went away.", counts.cancelled),
            ("expired", "Questions dropped because they waited too long.", counts.expired),
            ("refused", "Questions refused because the queue was full.", counts.refused),
            ("busy_seconds", "Time spent computing.", counts.busy_seconds),
            ("read_tokens", "Tokens of histories read.", cache.n_read),
            ("reused_tokens", "Tokens of histories that had been read before.", cache.n_reused),
        ):
            yield CounterMetricFamily(f"flr_engine_{name}", what, value)
