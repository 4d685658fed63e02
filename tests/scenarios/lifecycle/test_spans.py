"""A collector of OpenTelemetry gets a span for each batch, linked to its pusher's; one that hangs delays no audio."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from structlog.testing import capture_logs

from tests.support.oracle import Talk
from tests.support.process import environment, outcome
from worker.errors import ExtraMissing
from worker.runtime.spans import ENDPOINTS, NoSpans, Spans, open_spans

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.harness import Harness

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector:
    """What came over OTLP; it answers nothing while `hangs`."""

    def __init__(self, *, hangs: bool) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        self._hangs = hangs
        self.released = asyncio.Event()

    async def take(self, request: web.Request) -> web.Response:
        self.requests.append(ExportTraceServiceRequest.FromString(await request.read()))
        if self._hangs:
            await self.released.wait()
        return web.Response(content_type="application/x-protobuf")

    @property
    def spans(self) -> list[Any]:
        return [
            span
            for each in self.requests
            for whole in each.resource_spans
            for scope in whole.scope_spans
            for span in scope.spans
        ]


@asynccontextmanager
async def collecting(*, hangs: bool = False) -> AsyncIterator[tuple[Collector, dict[str, str]]]:
    """A collector, and the variable that names it."""
    collector, app = Collector(hangs=hangs), web.Application()
    app.add_routes([web.post("/v1/traces", collector.take)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield collector, {ENDPOINTS[0]: f"http://127.0.0.1:{runner.addresses[0][1]}"}
    finally:
        collector.released.set()
        await runner.cleanup()


def facts(span: Any) -> dict[str, Any]:  # noqa: ANN401 -- generated classes
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes}


async def test_each_batch_is_a_span_that_is_linked_to_its_pushers_request(harness: Harness) -> None:
    talk, other = Talk("c"), Talk("other")
    traced = replace(talk.say(3), extensions={"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "a=1"})
    await harness.push(traced, other.say(1))
    async with collecting() as (collector, variables):
        status, _, told = await outcome(environment(harness.settings()) | variables, "run", "--drain")
    assert status == 0, told
    linked, alone = sorted(collector.spans, key=lambda span: -len(span.links))
    assert (linked.name, alone.name, len(alone.links)) == ("batch", "batch", 0)
    assert [(link.trace_id.hex(), link.span_id.hex()) for link in linked.links] == [(TRACE, SPAN)]
    assert 0 <= linked.end_time_unix_nano - linked.start_time_unix_nano < 60e9
    known = facts(linked)
    assert known.pop("batch.bytes") > 0
    assert known == {
        "batch.outcome": "done",
        "batch.trigger": "audio",
        "batch.codec": "opus",
        "batch.chunks": 1,
        "batch.audio_seconds": 3.0,
        "batch.partition": harness.partition("c"),
        "batch.recovered": 0,
    }


async def test_a_collector_that_hangs_delays_neither_audio_nor_the_end(harness: Harness) -> None:
    await harness.push(Talk("c").say(3))
    async with collecting(hangs=True) as (collector, variables):
        status, _, told = await outcome(environment(harness.settings()) | variables, "run", "--drain")
        assert (status, len(collector.spans)) == (0, 1), told
    assert len(harness.blobs()) == 1


def missing() -> Spans:
    raise ExtraMissing("opentelemetry is missing")


def test_without_the_extra_there_are_no_spans_and_the_log_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ENDPOINTS:
        monkeypatch.delenv(name, raising=False)
    assert isinstance(open_spans(missing), NoSpans)
    monkeypatch.setenv(ENDPOINTS[1], "http://collector:4318/v1/traces")
    with capture_logs() as logs:
        assert isinstance(open_spans(missing), NoSpans)
    assert [line["event"] for line in logs] == ["spans.extra_missing"]
