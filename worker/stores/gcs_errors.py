"""Translates the errors of Google Cloud Storage's client libraries into ours."""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, NamedTuple

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from worker.errors import ObjectExists, ObjectMissing, StoreError
from worker.model.causes import StoreCause
from worker.runtime.google_credentials import MALFORMED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# All errors that a request can raise: the transport's errors, and those.
FOREIGN = (aiohttp.ClientError, TimeoutError, OSError, *MALFORMED)

CAUSES = {
    401: StoreCause.PERMISSION,
    403: StoreCause.PERMISSION,
    404: StoreCause.MISSING_BUCKET,
    408: StoreCause.TIMEOUT,
    412: StoreCause.EXISTS,
    429: StoreCause.THROTTLED,
}
ADVICE = {
    StoreCause.PERMISSION: "; grant the service account roles/storage.objectUser on the bucket",
    StoreCause.MISSING_BUCKET: "; correct the bucket in STORE_URL or create it",
    StoreCause.HELD: "; release the hold, or try again when the retention period has ended",
    StoreCause.BILLING: "; enable billing for the project that owns the bucket",
    StoreCause.REQUESTER_PAYS: "; turn requester pays off for the bucket: no project to bill can be named here",
}
THROTTLED_REASONS = frozenset({"rateLimitExceeded", "userRateLimitExceeded", "quotaExceeded"})


class _Meaning(NamedTuple):
    """How an answer with a general status tells its cause: by one of its reasons, or by words of its message."""

    cause: StoreCause
    reasons: frozenset[str]
    words: re.Pattern[str]


# 403 and 400 have many meanings. https://cloud.google.com/storage/docs/json_api/v1/status-codes
MEANINGS = (
    _Meaning(
        StoreCause.HELD,
        frozenset({"retentionPolicyNotMet", "objectUnderActiveHold"}),
        re.compile(
            r"\bunder active (temporary|event-based) hold\b|\bsubject to .{0,60}\b(retention policy|retention)\b",
            re.IGNORECASE,
        ),
    ),
    _Meaning(
        StoreCause.BILLING,
        frozenset({"accountDisabled", "userProjectAccountProblem"}),
        re.compile(r"\bbilling account\b.{0,80}\b(disabled|closed|absent)\b", re.IGNORECASE),
    ),
    _Meaning(
        StoreCause.REQUESTER_PAYS,
        frozenset({"userProjectMissing"}),
        re.compile(r"\brequester pays bucket but no user project\b", re.IGNORECASE),
    ),
)
MAX_DETAIL = 300  # characters of a server's message
LONGEST_WAIT = 3600.0  # seconds; a server that asks for more still gets a request after this time


@contextmanager
def translated(doing: str, *, missing: str | None = None, exists: str | None = None) -> Iterator[None]:
    """Raise our errors in place of those of aiohttp and the sockets below; cancellation passes through.

    `doing` begins the message. `missing` and `exists` name the object that a 404 and a 412 are about; without them
    these are ordinary refusals.

    Raises:
        ObjectMissing, ObjectExists, StoreError
    """
    try:
        yield
    except FOREIGN as error:
        raise _ours(error, doing, missing, exists) from error


def _ours(error: Exception, doing: str, missing: str | None, exists: str | None) -> StoreError:
    if not isinstance(error, aiohttp.ClientResponseError) or isinstance(error.__cause__, HttpProcessingError):
        words = " ".join(str(error).split())[:MAX_DETAIL]
        return StoreError(f"{doing}: {type(error).__name__}: {words}", cause=_transport_cause(error))
    if missing is not None and error.status == 404 and "specified bucket" not in error.message:
        return ObjectMissing(missing)
    if exists is not None and error.status == 412:
        return ObjectExists(exists)
    return _refusal(error, doing)


def _transport_cause(error: Exception) -> StoreCause:
    if isinstance(error, TimeoutError):
        return StoreCause.TIMEOUT
    # The transport comes first, because the error of an invalid certificate is an OSError and a ValueError too.
    is_transport = isinstance(error, (aiohttp.ClientError, OSError))
    return StoreCause.NETWORK if is_transport else StoreCause.UNEXPECTED


def _refusal(error: aiohttp.ClientResponseError, doing: str) -> StoreError:
    cause = _refusal_cause(error)
    return StoreError(
        f"{doing}: HTTP {error.status}: {_detail(error.message)}{ADVICE.get(cause, '')}",
        cause=cause,
        status=error.status,
        retry_after=_asked_to_wait(error.headers or {}),
    )


def _refusal_cause(error: aiohttp.ClientResponseError) -> StoreCause:
    if error.status >= 500:
        return StoreCause.SERVER
    if error.status in (400, 403) and (cause := _told_cause(error)) is not None:
        return cause
    if error.status == 400:
        return StoreCause.CORRUPT if "doesn't match calculated" in error.message else StoreCause.REQUEST
    return CAUSES.get(error.status, StoreCause.UNEXPECTED)


def _told_cause(error: aiohttp.ClientResponseError) -> StoreCause | None:
    """The cause that the answer's body tells; None if its status must do."""
    reasons, words = _reasons(error.message), _detail(error.message)
    if error.status == 403 and not reasons.isdisjoint(THROTTLED_REASONS):
        return StoreCause.THROTTLED
    for meaning in MEANINGS:
        if not reasons.isdisjoint(meaning.reasons) or meaning.words.search(words):
            return meaning.cause
    return None


def _reasons(message: str) -> frozenset[str]:
    try:
        errors = json.loads(_body(message))["error"]["errors"]
        return frozenset(str(each["reason"]) for each in errors)
    except (ValueError, LookupError, TypeError):
        return frozenset()


def _detail(message: str) -> str:
    # The body is usually the JSON API's {"error": {"message": …}}.
    try:
        words = str(json.loads(_body(message))["error"]["message"])
    except (ValueError, LookupError, TypeError):
        words = message
    return " ".join(words.split())[:MAX_DETAIL]


def _body(message: str) -> str:
    """The body in the library's message, which is "{reason phrase}: {body}"."""
    return message.partition(": ")[2]


def _asked_to_wait(headers: Mapping[str, str]) -> float | None:
    # Relative to the server's own clock, which dated the reply: ours may be wrong.
    return retry_after(headers.get("Retry-After"), _moment(headers.get("Date")))


def retry_after(value: str | None, now: datetime | None) -> float | None:
    """Seconds that a Retry-After header asks for, as a number or an HTTP date (RFC 9110, 10.2.3), one hour at most.

    None if it is neither, or if it is a date and `now` is unknown.
    """
    if value is not None and value.isascii() and value.isdigit():
        return min(float(value), LONGEST_WAIT)
    moment = _moment(value)
    if moment is None or now is None:
        return None
    return min(max(0.0, (moment - now).total_seconds()), LONGEST_WAIT)


def _moment(value: str | None) -> datetime | None:
    try:
        moment = parsedate_to_datetime(value or "")
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
