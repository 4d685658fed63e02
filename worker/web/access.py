"""Who may ask: the name of the host, the origin of the request, and a session; everything else is refused."""

from __future__ import annotations

import ipaddress
import re
import secrets
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import structlog
from aiohttp import web
from aiohttp.typedefs import Middleware

from codec.errors import WorkerError
from worker.web.replies import explained, refusal
from worker.web.sessions import SESSION_SECONDS, Sessions

if TYPE_CHECKING:
    from worker.web.identity import SignedIdentities

ENTER = "/enter"
"""The path of the one-time link."""

READING = frozenset({"GET", "HEAD"})
WHO = web.RequestKey("who", str)
"""Who asks, for the log."""

HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9.-]{1,253})(:[0-9]{1,5})?")

WELCOME = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>audio-batch-worker</title>
<meta http-equiv="refresh" content="0; url=/"></head><body><p><a href="/">Continue</a></p></body></html>
"""
"""A page and no redirect: after a redirect from another site, the browser would not send the new cookie."""

STRANGER = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>audio-batch-worker: no access</title>
</head><body><main><h1>You need a link</h1>
<p>audio-batch-worker web has written a link that works once. Open that link in this browser.
After it is used, the next link is written in the same place.</p>
<p>Is this browser in already, and did you come from another site? Then <a href="">load this page again</a>.</p>
</main></body></html>
"""

log = structlog.get_logger()
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Access:
    """The middleware of all requests. `tell_link` is called with the key of each new link.

    `names` are host names beside this machine's own. `identities` are None unless a proxy tells who asks.
    """

    def __init__(
        self,
        sessions: Sessions,
        tell_link: Callable[[str], object],
        names: tuple[str, ...] = (),
        identities: SignedIdentities | None = None,
    ) -> None:
        self._sessions = sessions
        self._tell_link = tell_link
        self._names = frozenset(name.lower() for name in names)
        self._identities = identities
        self._cookie = f"abw-{secrets.token_hex(4)}"  # cookies of one host are shared by all its ports

    def open(self) -> None:
        """Make the first link."""
        self._tell_link(self._sessions.new_link())

    def middleware(self) -> Middleware:
        """The function that aiohttp calls around every handler, also around the one for unknown paths."""

        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            reply = self._refused(request)
            if reply is None and request.path == ENTER:
                reply = self._entered(request)
            if reply is None:
                who = await self._who(request)
                if who is None:
                    return _stranger(request)
                request[WHO] = who
                return await _answered(request, handler)
            return reply

        return guard

    def _refused(self, request: web.Request) -> web.Response | None:
        if not self._is_ours(request.headers.get("Host", "")):
            return refusal(421, "this server does not answer under that host name; see --allow-host")
        origin = request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc.lower() != request.headers.get("Host", "").lower():
            return refusal(403, "the request comes from another site")
        if origin is None and request.method not in READING:
            return refusal(403, "the request does not say which site it comes from")
        site, mode = (request.headers.get(f"Sec-Fetch-{name}", "") for name in ("Site", "Mode"))
        if site in ("cross-site", "same-site") and mode != "navigate":
            return refusal(403, "the request comes from another site")
        return None

    def _is_ours(self, host: str) -> bool:
        """Whether a Host header names this server: a foreign name that leads here is an attack by DNS."""
        found = HOST.fullmatch(host)
        if found is None:
            return False
        name = found["name"].lower()
        if name == "localhost" or name in self._names:
            return True
        try:
            return ipaddress.ip_address(name.strip("[]")).is_loopback
        except ValueError:
            return False

    def _entered(self, request: web.Request) -> web.Response | None:
        token = self._sessions.redeem(request.query.get("key", "")) if request.method == "GET" else None
        if token is None:
            return _stranger(request)
        self._tell_link(self._sessions.new_link())
        session = self._sessions.find(token)
        log.info("web.entered", who=session.name if session else "", peer=request.remote)
        reply = web.Response(text=WELCOME, content_type="text/html")
        secure = request.headers.get("X-Forwarded-Proto") == "https"
        reply.set_cookie(
            self._cookie, token, max_age=int(SESSION_SECONDS), httponly=True, samesite="Strict", path="/", secure=secure
        )
        return reply

    async def _who(self, request: web.Request) -> str | None:
        if self._identities is not None:
            return await self._identities.who(request.headers)
        session = self._sessions.find(request.cookies.get(self._cookie, ""))
        return None if session is None else session.name


def _stranger(request: web.Request) -> web.Response:
    if "text/html" in request.headers.get("Accept", ""):
        return web.Response(status=401, text=STRANGER, content_type="text/html")
    return refusal(401, "open the link that audio-batch-worker web has written")


async def _answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except WorkerError as error:
        return explained(error)
