"""Probes and metrics, asked over a real socket."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.parser import text_string_to_metric_families

from worker.errors import SettingsError
from worker.operations import http as http_module
from worker.operations.http import MAX_CONNECTIONS, HttpServer
from worker.settings import HttpSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence


@dataclass
class Condition:
    """A health that tests set."""

    not_live: list[str] = field(default_factory=list)
    not_ready: list[str] = field(default_factory=list)

    def live(self) -> Sequence[str]:
        return self.not_live

    def ready(self) -> Sequence[str]:
        return self.not_ready


@pytest.fixture
def condition() -> Condition:
    return Condition()


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
async def server(condition: Condition, registry: CollectorRegistry) -> AsyncIterator[HttpServer]:
    async with HttpServer(HttpSettings("127.0.0.1", 0), health=condition, registry=registry) as server:
        yield server


@pytest.fixture
async def http(server: HttpServer) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as session:
        yield session


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
async def test_a_healthy_worker_answers_ok(path: str, http: aiohttp.ClientSession) -> None:
    async with http.get(path) as response:
        assert (response.status, await response.text()) == (200, "ok\n")


async def test_an_unready_worker_is_alive_and_says_every_reason(
    condition: Condition, http: aiohttp.ClientSession
) -> None:
    condition.not_ready = ["Redis does not answer", "the store has refused for 40 s"]
    async with http.get("/readyz") as response:
        assert response.status == 503
        assert await response.text() == "Redis does not answer\nthe store has refused for 40 s\n"
    async with http.get("/livez") as response:
        assert response.status == 200


async def test_a_stuck_worker_is_not_alive(condition: Condition, http: aiohttp.ClientSession) -> None:
    condition.not_live = ["no progress for 90 s"]
    async with http.get("/livez") as response:
        assert (response.status, await response.text()) == (503, "no progress for 90 s\n")


async def test_metrics_are_what_prometheus_parses(http: aiohttp.ClientSession, registry: CollectorRegistry) -> None:
    Counter("chunks", "Chunks", registry=registry).inc(3)
    async with http.get("/metrics", headers={"Accept": "application/openmetrics-text;version=nonsense"}) as response:
        assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        families = {family.name: family for family in text_string_to_metric_families(await response.text())}
    assert families["chunks"].samples[0].value == 3


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
async def test_head_is_answered_as_get_without_a_body(path: str, http: aiohttp.ClientSession) -> None:
    async with http.head(path) as response:
        assert (response.status, await response.read()) == (200, b"")


def test_three_paths_and_two_methods_are_all_there_is(server: HttpServer) -> None:
    routes = {(route.method, route.resource.canonical) for route in server._app().router.routes() if route.resource}
    assert routes == {(method, path) for method in ("GET", "HEAD") for path in ("/livez", "/readyz", "/metrics")}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/metrics/", 404),
        ("GET", "/../etc/passwd", 404),
        ("GET", "/debug/pprof", 404),
        *((method, "/livez", 405) for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")),
    ],
)
async def test_nothing_else_is_served_and_no_software_named(
    method: str, path: str, status: int, http: aiohttp.ClientSession
) -> None:
    async with http.request(method, path) as response:
        assert response.status == status
        assert "Server" not in response.headers


async def unfinished(port: int) -> asyncio.StreamWriter:
    """A connection whose request does not end."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /livez HTTP/1.1\r\nHost:")
    return writer


async def test_any_number_of_unfinished_requests_leaves_room_for_a_probe(server: HttpServer) -> None:
    writers = [await unfinished(server.port) for _ in range(3 * MAX_CONNECTIONS)]
    async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{server.port}/livez") as response:
        assert response.status == 200
    assert server._runner is not None
    assert server._runner.server is not None
    assert len(server._runner.server.connections) <= MAX_CONNECTIONS
    for writer in writers:
        writer.close()


async def test_request_that_does_not_end_is_cut_off(
    condition: Condition, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_module, "REQUEST_SECONDS", 0.05)
    async with HttpServer(HttpSettings("127.0.0.1", 0), health=condition, registry=registry) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /livez HTTP/1.1\r\nHost:")
        async with asyncio.timeout(10):
            assert await reader.read() == b""
        writer.close()


async def test_a_taken_port_is_a_sentence_about_the_setting(server: HttpServer, condition: Condition) -> None:
    second = HttpServer(HttpSettings("127.0.0.1", server.port), health=condition, registry=CollectorRegistry())
    with pytest.raises(SettingsError, match=f"^HTTP_PORT {server.port} on 127.0.0.1 "):
        await second.start()
    await second.stop()


async def test_the_port_is_free_again_after_stop_even_with_an_idle_connection(condition: Condition) -> None:
    first = HttpServer(HttpSettings("127.0.0.1", 0), health=condition, registry=CollectorRegistry())
    await first.start()
    port = first.port
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://127.0.0.1:{port}/livez") as response:
            await response.read()
        await first.stop()
        await first.stop()
        async with (
            HttpServer(HttpSettings("127.0.0.1", port), health=condition, registry=CollectorRegistry()),
            session.get(f"http://127.0.0.1:{port}/livez") as response,
        ):
            assert response.status == 200
