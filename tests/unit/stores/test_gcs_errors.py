"""No error of the libraries below the Cloud Storage store gets past it."""

from __future__ import annotations

import asyncio
import inspect
import sys
from datetime import UTC, datetime

import aiohttp
import aiohttp.client_exceptions
import jwt.exceptions
import pytest

from worker.stores.gcs_credentials import FOREIGN_AUTH
from worker.stores.gcs_errors import FOREIGN, retry_after

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
NEVER_RAISED_BY_REQUESTS = {
    aiohttp.EofStream,  # inside aiohttp
    aiohttp.WebSocketError,
    aiohttp.WSMessageTypeError,
    asyncio.CancelledError,  # no error: it passes on purpose
    asyncio.InvalidStateError,  # misuse of futures
    asyncio.QueueEmpty,
    asyncio.QueueFull,
    asyncio.BrokenBarrierError,
    asyncio.IncompleteReadError,  # asyncio's streams, which aiohttp does not use
    asyncio.LimitOverrunError,
    asyncio.SendfileNotAvailableError,
}
if sys.version_info >= (3, 13):
    NEVER_RAISED_BY_REQUESTS.add(asyncio.QueueShutDown)


def exceptions_of(module: object) -> set[type[BaseException]]:
    classes = {value for _, value in inspect.getmembers(module, inspect.isclass)}
    return {each for each in classes if issubclass(each, BaseException) and not issubclass(each, Warning)}


@pytest.mark.parametrize("module", [aiohttp, aiohttp.client_exceptions, asyncio])
def test_every_error_of_the_transport_is_translated(module: object) -> None:
    escaping = {error for error in exceptions_of(module) if not issubclass(error, FOREIGN)}

    assert escaping - NEVER_RAISED_BY_REQUESTS == set()


def test_every_error_of_fetching_a_token_is_translated() -> None:
    errors = exceptions_of(jwt.exceptions) | exceptions_of(aiohttp.client_exceptions)

    assert {error for error in errors if not issubclass(error, FOREIGN_AUTH)} == set()


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("0", 0.0),
        ("120", 120.0),
        ("9" * 400, 3600.0),
        ("Sat, 01 Jan 2028 00:00:00 GMT", 3600.0),
        ("Fri, 02 Jan 2026 03:05:05 GMT", 60.0),
        ("Fri, 02 Jan 2026 03:04:00 GMT", 0.0),
        ("Fri, 02 Jan 2026 03:05:05 -0000", 60.0),
        ("-1", None),
        ("soon", None),
        ("", None),
        ("1e9", None),
        ("\u0663", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_nothing_else(header: str | None, seconds: float | None) -> None:
    assert retry_after(header, NOW) == seconds


def test_retry_after_a_date_says_nothing_when_the_reply_has_none() -> None:
    assert retry_after("Fri, 02 Jan 2026 03:05:05 GMT", None) is None
