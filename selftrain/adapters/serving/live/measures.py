"""Measures: what the server counts, in Prometheus's text format."""

from __future__ import annotations

from typing import Final, Literal

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
SampleOutcome = Literal["written", "known", "dropped", "failed"]
_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Measures:
    """The counters of one server, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        own = self._registry
        self.requests = Counter("selftrain_requests", "Requests, by HTTP status", ["route", "status"], registry=own)
        self.seconds = Histogram(
            "selftrain_request_seconds", "From body read to answer", ["route"], buckets=_SECONDS, registry=own
        )
        self.images = Counter("selftrain_images", "Images: answered or refused", ["outcome"], registry=own)
        self.waiting = Gauge("selftrain_requests_waiting", "Requests being answered", registry=own)
        self.version = Gauge("selftrain_model_version", "The version that answers", registry=own)
        self.failed_version = Gauge(
            "selftrain_failed_model_version", "The champion that could not be loaded; 0: none", registry=own
        )
        self.reloads = Counter("selftrain_reloads", "Changes of the version: done or failed", ["outcome"], registry=own)
        self.registry_errors = Counter("selftrain_registry_errors", "Looks that the registry refused", registry=own)
        self.sampled = Counter(
            "selftrain_sampled", "Images for the inbox: written, known, dropped or failed", ["outcome"], registry=own
        )

    def now_serving(self, number: int) -> None:
        """Version `number` answers."""
        self.version.set(number)

    def reloaded(self, number: int) -> None:
        """Version `number` took over."""
        self.reloads.labels("done").inc()
        self.failed_version.set(0)
        self.now_serving(number)

    def reload_failed(self, number: int) -> None:
        """The champion, version `number`, could not be loaded."""
        self.reloads.labels("failed").inc()
        self.failed_version.set(number)

    def sample(self, outcome: SampleOutcome) -> None:
        """One image for the inbox."""
        self.sampled.labels(outcome).inc()

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self._registry)
