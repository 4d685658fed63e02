"""The server: routes, bounds on connections, its start and its end."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Self, cast

from aiohttp import web

from worker.errors import SettingsError
from worker.web import static_files
from worker.web.operating import events, letters, live
from worker.web.recordings import audio, auditing, finding, timeline, waveform
from worker.web.recordings.opening import OPENED, OpenedRecordings
from worker.web.recordings.waveform import PEAKS, PeakCache
from worker.web.replies import add_headers
from worker.web.site import SITE, Site

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp.web_protocol import RequestHandler

    from worker.web.access import Access

CLOSE_SECONDS = 1.0
KEEP_ALIVE_SECONDS = 75.0
MOST_BODY_BYTES = 64 * 1024
"""Bytes of a request's body: a list of dead letters."""


class WebServer:
    """Serves from `start` to `stop`, or inside `async with`.

    Raises:
        SettingsError: by `start`, if it can't listen on the address.
    """

    def __init__(self, site: Site, access: Access) -> None:
        self._site = site
        self._app = application(site, access)
        self._runner: web.AppRunner | None = None
        self._listener: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """The port it listens on: the real one when it was asked for port 0."""
        return int(self._listener.sockets[0].getsockname()[1]) if self._listener else self._site.page.port

    @property
    def live(self) -> live.Live:
        """The overview of now, while it serves."""
        return self._app[live.LIVE]

    async def start(self) -> None:
        """Start to listen."""
        self._runner = web.AppRunner(
            self._app,
            access_log=None,
            shutdown_timeout=CLOSE_SECONDS,
            keepalive_timeout=KEEP_ALIVE_SECONDS,
            handler_cancellation=True,  # a listener who leaves ends the decoding
        )
        await self._runner.setup()
        page = self._site.page
        make = partial(self._connected, cast("Callable[[], RequestHandler]", self._runner.server))
        try:
            self._listener = await asyncio.get_running_loop().create_server(make, page.host, page.port)
        except OSError as error:
            await self.stop()
            raise SettingsError(
                f"--port {page.port} on {page.host} can't be listened on ({error.strerror}); choose another"
            ) from error

    async def stop(self) -> None:
        """Close the socket and all connections; harmless when not started."""
        listener, self._listener = self._listener, None
        runner, self._runner = self._runner, None
        if listener:
            listener.close()
        if runner:
            await runner.cleanup()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def _connected(self, make: Callable[[], RequestHandler]) -> asyncio.Protocol:
        """The protocol of a new connection; one too many is closed at once."""
        server = None if self._runner is None else self._runner.server
        if server is None or len(server.connections) >= self._site.limits.connections:
            return _Closing()
        return make()


class _Closing(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).abort()


def application(site: Site, access: Access) -> web.Application:
    """All routes, behind the access."""
    app = web.Application(middlewares=[access.middleware()], client_max_size=MOST_BODY_BYTES)
    app[SITE] = site
    app[OPENED] = OpenedRecordings(site)
    app[PEAKS] = PeakCache(site.limits.peak_bytes)
    app.on_response_prepare.append(add_headers)
    app.cleanup_ctx.append(live.running)
    for part in (static_files, finding, timeline, audio, waveform, auditing, live, letters, events):
        app.add_routes(part.routes())
    return app
