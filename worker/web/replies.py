"""The form of all answers: headers that keep a browser safe, JSON, and errors as sentences."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType

from aiohttp import web

from codec.errors import BadName, WorkerError
from worker.errors import BadSelection, ExtraMissing, NothingStored, StoreError, StreamError

POLICY = (
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self'",
    "media-src 'self'",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'self'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",  # no text can become markup, also not by mistake
    "trusted-types 'none'",
)
"""Content-Security-Policy: nothing but what this server gives."""

HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "Content-Security-Policy": "; ".join(POLICY),
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
    }
)
"""Of every answer, errors included."""

STATUS = (
    (NothingStored, 404),
    (BadName, 400),
    (BadSelection, 400),
    (ExtraMissing, 501),
    (StoreError, 503),
    (StreamError, 503),
)
"""HTTP status of errors, the first that fits; any other error of ours is a 500."""


async def add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    """Give an answer the headers of all answers. For `on_response_prepare`."""
    response.headers.update(HEADERS)
    response.headers.pop("Server", None)


def json_reply(document: object, status: int = 200) -> web.Response:
    """A document as JSON."""
    text = json.dumps(document, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return web.Response(text=text, status=status, content_type="application/json")


def refusal(status: int, sentence: str, **headers: str) -> web.Response:
    """An error as JSON with one sentence for a person."""
    reply = json_reply({"error": sentence}, status)
    reply.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
    return reply


def explained(error: WorkerError) -> web.Response:
    """The answer to a request that failed as foreseen."""
    status = next((status for kind, status in STATUS if isinstance(error, kind)), 500)
    return refusal(status, str(error))
