"""The HTTP side of a worker: /livez and /readyz for Kubernetes, /metrics for Prometheus; all read-only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, Self

from aiohttp import web
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from worker.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prometheus_client import CollectorRegistry

    from worker.settings import HttpSettings

CLOSE_SECONDS = 1.0
"""How long `stop` waits for requests under way; a scraper's idle connection must not hold up the shutdown."""


class Health(Protocol):
    """What the probes ask. Both answer at once, without I/O."""

    def live(self) -> Sequence[str]:
        """Why this process needs a restart, one sentence each; empty when it does not."""

    def ready(self) -> Sequence[str]:
        """Why this worker can't do its job now, one sentence each; empty when it can."""


class HttpServer:
    """Serves from `start` to `stop`, or inside `async with`.

    Raises:
        SettingsError: by `start`, if it can't listen on the address.
    """

    def __init__(self, address: HttpSettings, *, health: Health, registry: CollectorRegistry) -> None:
        self._host = address.host
        self._port = address.port
        self._health = health
        self._registry = registry
        self._runner: web.AppRunner | None = None

    @property
    def port(self) -> int:
        """The port it listens on: the real one when it was asked for port 0."""
        return int(self._runner.addresses[0][1]) if self._runner else self._port

    async def start(self) -> None:
        """Start to listen."""
        runner = web.AppRunner(self._app(), access_log=None, shutdown_timeout=CLOSE_SECONDS)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._port).start()
        except OSError as error:
            await runner.cleanup()
            raise SettingsError(
                f"HTTP_PORT {self._port} on {self._host} can't be listened on ({error.strerror}); choose another"
            ) from error
        self._runner = runner

    async def stop(self) -> None:
        """Close the socket and all connections; harmless when not started."""
        runner, self._runner = self._runner, None
        if runner:
            await runner.cleanup()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def _app(self) -> web.Application:
        app = web.Application()
        app.add_routes(
            [web.get("/livez", self._livez), web.get("/readyz", self._readyz), web.get("/metrics", self._metrics)]
        )
        app.on_response_prepare.append(_hide_server)
        return app

    async def _livez(self, _request: web.Request) -> web.Response:
        return _probe(self._health.live())

    async def _readyz(self, _request: web.Request) -> web.Response:
        return _probe(self._health.ready())

    async def _metrics(self, _request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})


def _probe(problems: Sequence[str]) -> web.Response:
    text = "\n".join(problems) or "ok"
    return web.Response(status=503 if problems else 200, text=f"{text}\n", headers={"Cache-Control": "no-store"})


async def _hide_server(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.pop("Server", None)
