"""The HTTP session of the Cloud Storage store: it lets only expected answers through."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp

if TYPE_CHECKING:
    from types import SimpleNamespace

EXPECTED = {"DELETE": range(200, 300)}
"""Status by method. All other requests that succeed give 200, those to the token endpoints included."""


def open_session() -> aiohttp.ClientSession:
    """A session that follows no redirect and raises `aiohttp.ClientResponseError` for an unexpected status below 400.

    A redirect of an upload would send the audio to any host, or turn it into a download that succeeds. The library
    that uses the session leaves both to aiohttp, which follows redirects and sees no error below 400.
    """
    watch = aiohttp.TraceConfig()
    watch.on_request_redirect.append(_refuse)
    watch.on_request_end.append(_refuse)
    # Callers limit their own concurrency, so the connector does not.
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), trace_configs=[watch])


async def _refuse(
    _session: aiohttp.ClientSession,
    _context: SimpleNamespace,
    answered: aiohttp.TraceRequestRedirectParams | aiohttp.TraceRequestEndParams,
) -> None:
    response = answered.response
    if response.status >= 400 or response.status in EXPECTED.get(answered.method, (200,)):
        return
    response.close()  # also drops the rest of the upload
    redirect = 300 <= response.status < 400
    raise aiohttp.ClientResponseError(
        response.request_info,
        response.history,
        status=response.status,
        message="redirects are not followed" if redirect else "no answer that this request can have",
        headers=response.headers,
    )
