"""The page of one test: a server on real settings, its link, and a client that is in."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp

from worker.archive import Archive
from worker.settings import Settings
from worker.stream.client import Client
from worker.stream.servers.connecting import connect
from worker.web.access import ENTER, Access
from worker.web.identity import SignedIdentities
from worker.web.server import WebServer
from worker.web.sessions import Sessions
from worker.web.site import PageLimits, PageOptions, Site


@dataclass
class WebPage:
    """A running page; `keys` are those of the links that it has told so far, `http` is a client with a session."""

    server: WebServer
    site: Site
    keys: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}"

    @property
    def link(self) -> str:
        return f"{self.url}{ENTER}?key={self.keys[-1]}"

    @asynccontextmanager
    async def entered(self) -> AsyncIterator[aiohttp.ClientSession]:
        """A client that has used the link."""
        async with aiohttp.ClientSession(self.url, cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
            async with http.get(self.link) as reply:
                assert reply.status == 200
            yield http


@asynccontextmanager
async def web_page(
    settings: Settings,
    page: PageOptions | None = None,
    limits: PageLimits | None = None,
    *,
    redis: bool = True,
    identities: SignedIdentities | None = None,
) -> AsyncIterator[WebPage]:
    """Serve the page for the settings' Redis and store."""
    store = settings.store.open() if settings.store_url else None
    client = Client(connect(settings.redis.url)) if redis else None
    archive = None if store is None else Archive(store, settings.secrets)
    site = Site(settings, page or PageOptions(), store, archive, client, time.monotonic, limits or PageLimits())
    keys: list[str] = []
    access = Access(Sessions(time.monotonic), keys.append, site.page.names, identities)
    async with WebServer(site, access) as server:
        access.open()
        yield WebPage(server, site, keys)
    if client is not None:
        await client.close()
    if store is not None:
        await store.close()
