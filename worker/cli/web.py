"""`web`: the page to find, see and hear conversations, and to watch the workers."""

from __future__ import annotations

import asyncio
import os
import webbrowser
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli import archives, printing

if TYPE_CHECKING:
    from worker.settings import Settings
    from worker.web.identity import TrustedProxy
    from worker.web.site import PageOptions, Site

OWNER_ONLY = 0o600
GRACE_SECONDS = 5.0


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("web")(web)


def web(
    host: Annotated[str, typer.Option(help="Address to listen on. Others than this machine need a proxy with TLS.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8090,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the link in a browser.")] = False,
    allow_replay: Annotated[
        bool, typer.Option("--allow-replay", help="Let the page push dead letters again, after a question.")
    ] = False,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", help="Another host name that leads here, as a proxy's; may be repeated."),
    ] = None,
    link_file: Annotated[
        Path | None, typer.Option("--link-file", help="Write the link into this file instead of standard output.")
    ] = None,
    trust_audience: Annotated[
        str | None,
        typer.Option("--trust-audience", help="Trust the signed header of an identity-aware proxy for this audience."),
    ] = None,
    trust_header: Annotated[
        str | None, typer.Option("--trust-header", help="The proxy's header; without it, that of Google's proxy.")
    ] = None,
    trust_keys: Annotated[
        str | None, typer.Option("--trust-keys", help="URL or file with the proxy's keys; without it, Google's.")
    ] = None,
    trust_issuer: Annotated[
        str | None, typer.Option("--trust-issuer", help="Who must have signed; without it, Google's proxy.")
    ] = None,
) -> None:
    """Serve a page to find, see and hear conversations, and to watch the workers. Changes nothing.

    It finds Redis and the store by the same environment as the worker. Without REDIS_URL it shows what is stored,
    without STORE_URL what happens in Redis. The link that it writes opens the page once; then the next link is written.
    """
    from worker import settings
    from worker.runtime import logs
    from worker.web.site import PageOptions

    loaded = settings.load()
    logs.configure(loaded.log_level, loaded.log_format)
    page = PageOptions(host, port, tuple(allow_host or ()), allow_replay)
    proxy = _proxy(trust_audience, trust_header, trust_keys, trust_issuer)
    asyncio.run(serve(loaded, page, proxy, LinkWriter(link_file, open_browser=open_browser)))


class LinkWriter:
    """Tells each new link, the first one also to a browser."""

    def __init__(self, file: Path | None, *, open_browser: bool) -> None:
        self._file = file
        self._opens = open_browser
        self.base = ""

    def tell(self, key: str) -> None:
        """Write the link with this key."""
        link = f"{self.base}/enter?key={key}"
        if self._file is None:
            printing.say(f"open {link}")
        else:
            with os.fdopen(os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, OWNER_ONLY), "w") as file:
                file.write(f"{link}\n")
        if self._opens:
            self._opens = False
            webbrowser.open(link)


def _proxy(audience: str | None, header: str | None, keys: str | None, issuer: str | None) -> TrustedProxy | None:
    from worker.web import identity

    if audience is None:
        if header or keys or issuer:
            raise typer.BadParameter("--trust-header, --trust-keys and --trust-issuer need --trust-audience")
        return None
    return identity.checked_proxy(audience, header or identity.HEADER, keys or identity.KEYS, issuer or identity.ISSUER)


async def serve(settings: Settings, page: PageOptions, proxy: TrustedProxy | None, link: LinkWriter) -> None:
    """Serve the page until SIGTERM or Ctrl-C. Raises `SettingsError`."""
    import time

    import structlog

    from worker.runtime.signals import stop_on_signals
    from worker.web.access import Access
    from worker.web.identity import SignedIdentities
    from worker.web.server import WebServer
    from worker.web.sessions import Sessions

    identities = None if proxy is None else SignedIdentities(proxy, time.monotonic)
    access = Access(Sessions(time.monotonic), link.tell, page.names, identities)
    async with AsyncExitStack() as stack:
        site = await _site(stack, settings, page)
        with stop_on_signals(GRACE_SECONDS) as stop:
            async with WebServer(site, access) as server:
                link.base = f"http://{_address(page.host)}:{server.port}"
                if proxy is None:
                    access.open()
                structlog.get_logger().info("web.serving", address=link.base, behind_proxy=proxy is not None)
                await stop.wait()


async def _site(stack: AsyncExitStack, settings: Settings, page: PageOptions) -> Site:
    """The shared objects; what is not configured is None."""
    import time

    from worker.archive import Archive
    from worker.stream.client import Client
    from worker.stream.servers.connecting import connect
    from worker.web.site import Site

    store = archives.configured_store(settings) if settings.store_url else None
    if store is not None:
        stack.push_async_callback(store.close)
    client = None
    if "redis_url" in settings.model_fields_set or store is None:
        client = await stack.enter_async_context(Client(connect(settings.redis.url)))
    archive = None if store is None else Archive(store, settings.secrets)
    return Site(settings, page, store, archive, client, time.monotonic)


def _address(host: str) -> str:
    if host in ("0.0.0.0", "::"):  # noqa: S104 -- all addresses: this machine reaches it by its own
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host
