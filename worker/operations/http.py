"""The HTTP side of a worker: /livez and /readyz for Kubernetes, /metrics for Prometheus; all read-only."""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Protocol, Self, cast

from aiohttp import web
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from worker.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aiohttp.web_protocol import RequestHandler
    from prometheus_client import CollectorRegistry

    from worker.settings import HttpSettings

CLOSE_SECONDS = 1.0
"""How long `stop` waits for requests under way; a scraper's idle connection must not hold up the shutdown."""


REQUEST_SECONDS = 10.0
"""How long a connection may be open without a complete request; probes and scrapers send theirs at once."""

MAX_CONNECTIONS = 32
"""Connections at once. A newer one ends the oldest, so that a probe gets through beside any number of idle ones."""

WAITING_CONNECTIONS = 64
"""Connections that the kernel holds until they are accepted."""


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
        self._listener: asyncio.Server | None = None
        self._latest: deque[RequestHandler] = deque()

    @property
    def port(self) -> int:
        """The port it listens on: the real one when it was asked for port 0."""
        return int(self._listener.sockets[0].getsockname()[1]) if self._listener else self._port

    async def start(self) -> None:
        """Start to listen."""
        self._runner = web.AppRunner(
            self._app(),
            access_log=None,
            shutdown_timeout=CLOSE_SECONDS,
            keepalive_timeout=REQUEST_SECONDS,  # it also ends connections whose request does not come
            lingering_time=CLOSE_SECONDS,
        )
        await self._runner.setup()
        try:
            self._listener = await self._listen(cast("Callable[[], RequestHandler]", self._runner.server))
        except OSError as error:
            await self.stop()
            raise SettingsError(
                f"HTTP_PORT {self._port} on {self._host} can't be listened on ({error.strerror}); choose another"
            ) from error

    async def stop(self) -> None:
        """Close the socket and all connections; harmless when not started."""
        listener, self._listener = self._listener, None
        runner, self._runner = self._runner, None
        if listener:
            listener.close()
        if runner:
            await runner.cleanup()
        self._latest.clear()

    async def _listen(self, make: Callable[[], RequestHandler]) -> asyncio.Server:
        # asyncio accepts `backlog` connections in a row. Without a free descriptor it would log each one, and then try
        # again that many times. So it gets one, and the kernel is told the real number afterwards.
        loop = asyncio.get_running_loop()
        listener = await loop.create_server(partial(self._connected, make), self._host, self._port, backlog=1)
        for listening in listener.sockets:
            with listening.dup() as own:
                own.listen(WAITING_CONNECTIONS)
        return listener

    def _connected(self, make: Callable[[], RequestHandler]) -> asyncio.Protocol:
        """The protocol of a new connection, for which the oldest one may have to go."""
        handler = make()
        self._latest.append(handler)
        if len(self._latest) > MAX_CONNECTIONS:
            oldest = self._latest.popleft()
            if isinstance(oldest.transport, asyncio.Transport):
                oldest.transport.abort()
        return handler

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
