"""/metrics, in the format of Prometheus."""

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from langevin.serving.engine import Engine


@dataclass(frozen=True, kw_only=True)
class Measures:
    """The figures of one server."""

    registry: CollectorRegistry
    requests: Counter
    seconds: Histogram

    @classmethod
    def of(cls, engine: Engine) -> "Measures":
        """Figures of requests, and of an engine as it is when they are read."""
        registry = CollectorRegistry()
        gauges = {
            "langevin_requests_pending": ("Requests that have not ended", lambda: len(engine.tickets)),
            "langevin_samples_pending": ("Samples that have not ended", lambda: len(engine.items)),
            "langevin_backlog_seconds": ("Expected seconds of the work that is waiting", engine.backlog),
            "langevin_network_calls": ("Network calls so far", lambda: engine.ticks),
            "langevin_function_evaluations": ("Function evaluations so far", lambda: engine.evaluations),
        }
        for name, (note, value) in gauges.items():
            Gauge(name, note, registry=registry).set_function(value)
        return cls(
            registry=registry,
            requests=Counter("langevin_http_requests", "HTTP requests", ["route", "code"], registry=registry),
            seconds=Histogram(
                "langevin_http_request_seconds", "Seconds of HTTP requests", ["route"], registry=registry
            ),
        )

    def text(self) -> bytes:
        """The figures as text."""
        return generate_latest(self.registry)
