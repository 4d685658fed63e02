"""Finds users and conversations: page by page, by the beginning of an id, by day."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from aiohttp import web

from worker.errors import BadSelection
from worker.web.replies import json_reply
from worker.web.site import number, optional, parameter, site_of

if TYPE_CHECKING:
    from worker.archive import ConversationSummary

PAGE = 50
MOST_PAGE = 500
MOST_LOOKED_AT = 100_000
"""Users, or conversations of a user, that one search looks at; then it says so."""


def routes() -> list[web.RouteDef]:
    """The routes of the search."""
    return [web.get("/api/users", users), web.get("/api/conversations", conversations)]


async def users(request: web.Request) -> web.Response:
    """Users whose id begins with `prefix`, after the id `after`, `limit` of them."""
    archive, (prefix, after) = (
        site_of(request).need_archive(),
        (optional(request, name) for name in ("prefix", "after")),
    )
    limit = number(request, "limit", PAGE, MOST_PAGE)
    page = SearchPage(limit)
    with site_of(request).limits.searches.taken():
        async for uid in archive.users():
            if page.is_over(fits=uid.startswith(prefix) and uid > after, item=uid):
                break
    return json_reply({"users": page.items, "more": page.more, "unfinished": page.unfinished})


async def conversations(request: web.Request) -> web.Response:
    """Conversations of `uid` by the beginning of their id, by UTC `day` (2026-01-31), after the id `after`."""
    archive, uid = site_of(request).need_archive(), parameter(request, "uid")
    prefix, after = optional(request, "prefix"), optional(request, "after")
    first, last = day_of(optional(request, "day"))
    page = SearchPage(number(request, "limit", PAGE, MOST_PAGE))
    with site_of(request).limits.searches.taken():
        async for found in archive.conversations(uid):
            is_of_day = found.start < last and found.end >= first
            fits = is_of_day and found.conversation_id.startswith(prefix) and found.conversation_id > after
            if page.is_over(fits=fits, item=_facts(found)):
                break
    return json_reply({"uid": uid, "conversations": page.items, "more": page.more, "unfinished": page.unfinished})


class SearchPage:
    """One page of a search: `more` says that there are others behind it, `unfinished` that it has not seen all."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._seen = 0
        self.items: list[Any] = []
        self.more = False
        self.unfinished = False

    def is_over(self, *, fits: bool, item: object) -> bool:
        """Take an item if it fits; whether the search is over."""
        self._seen += 1
        if fits and len(self.items) == self._limit:
            self.more = True
        elif fits:
            self.items.append(item)
        self.unfinished = self._seen >= MOST_LOOKED_AT
        return self.more or self.unfinished


def day_of(text: str) -> tuple[float, float]:
    """The first Unix second of a day in UTC, and that after its last one; all time for an empty text."""
    if not text:
        return float("-inf"), float("inf")
    try:
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise BadSelection(f"the day {text!r} is not written as 2026-01-31") from None
    return day.timestamp(), (day + timedelta(days=1)).timestamp()


def _facts(found: ConversationSummary) -> dict[str, Any]:
    return {
        "conversation": found.conversation_id,
        "start": found.start,
        "end": found.end,
        "seconds": found.seconds,
        "blobs": found.blobs,
        "bytes": found.bytes,
        "unmeasured": found.unmeasured,
    }
