"""The files that a browser gets, read once: a request names one of them, and no path leads to another file."""

from __future__ import annotations

from importlib.resources import files

from aiohttp import web

TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
VIEWS = ("/", "/find", "/conversation", "/letters", "/events")
"""Addresses of the page: all get the same document, whose script shows the view of the address."""

DOCUMENT = "index.html"


def routes() -> list[web.RouteDef]:
    """A route for each view and each file."""
    found = {
        file.name: (file.read_bytes(), TYPES["." + file.name.rpartition(".")[2]])
        for file in (files(__package__) / "static").iterdir()
        if file.is_file()
    }

    def serving(name: str) -> web.RouteDef:
        content, kind = found[name]

        async def serve(_request: web.Request) -> web.Response:
            return web.Response(body=content, content_type=kind, charset="utf-8")

        return web.get(f"/static/{name}", serve)

    document, icon = serving(DOCUMENT).handler, serving("icon.svg").handler
    views = [web.get(view, document) for view in VIEWS]
    return [*views, web.get("/favicon.ico", icon), *map(serving, sorted(found))]
