"""OpenTelemetry: a span for each stored batch, linked to the trace that its pusher has given.

There are none without the extra `otel`, or while no variable names where they go. Names and meanings of these variables
are OpenTelemetry's: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Protocol

import structlog

from codec.entry import TRACE_FIELDS, Trace
from worker.errors import ExtraMissing
from worker.runtime.extras import DISTRIBUTION, extra_imports

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
"""Variables of which one must be set: http://collector:4318, for the first."""

SPAN = "batch"
LAST_SECONDS = 2.0
"""For which the end of a worker waits for its last spans."""

Attributes = Mapping[str, str | int | float]

log = structlog.get_logger()


class Spans(Protocol):
    """Where spans go; audio never waits for them."""

    def record(self, attributes: Attributes, seconds: float, trace: Trace | None) -> None:
        """Note a batch that has just ended and took so many seconds; `trace` is its pusher's."""

    def close(self) -> None:
        """Send what is left, as far as that is quick."""


class NoSpans:
    """Nobody collects spans."""

    def record(self, attributes: Attributes, seconds: float, trace: Trace | None) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class OtelSpans:
    """Sends spans by OTLP over HTTP, from a thread of its own, which drops them while the collector is away.

    Raises:
        ExtraMissing: the extra `otel` is not installed.
    """

    def __init__(self) -> None:
        with extra_imports():
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
            from opentelemetry.sdk.resources import SERVICE_NAME, Resource  # noqa: PLC0415
            from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
            from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        name = os.environ.get("OTEL_SERVICE_NAME") or DISTRIBUTION
        self._provider = TracerProvider(resource=Resource.create({SERVICE_NAME: name}), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer(DISTRIBUTION)

    def record(self, attributes: Attributes, seconds: float, trace: Trace | None) -> None:
        """Start and end a span; its link leads to the span of the pusher's request."""
        from opentelemetry.trace import Link, get_current_span  # noqa: PLC0415 -- the extra is there
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

        told = dict(zip(TRACE_FIELDS, trace or (), strict=False))
        carrier = {name: text for name, text in told.items() if text is not None}
        pusher = get_current_span(TraceContextTextMapPropagator().extract(carrier)).get_span_context()
        links = [Link(pusher)] if pusher.is_valid else []
        now = time.time_ns()
        span = self._tracer.start_span(SPAN, links=links, attributes=attributes, start_time=now - int(seconds * 1e9))
        span.end(now)

    def close(self) -> None:
        """Send what is left; a collector that does not answer holds the end of the process up for two seconds."""
        last = threading.Thread(target=self._provider.shutdown, daemon=True)
        last.start()
        last.join(LAST_SECONDS)


def open_spans(make: Callable[[], Spans] = OtelSpans) -> Spans:
    """Spans for the collector that the environment names; none if it names none, or the extra is missing."""
    if not any(os.environ.get(name) for name in ENDPOINTS):
        return NoSpans()
    try:
        return make()
    except ExtraMissing as error:  # a cluster may set the variables for all its pods
        log.warning("spans.extra_missing", error=str(error))
        return NoSpans()
