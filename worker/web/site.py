"""What the handlers of all requests share: the archive, Redis, bounds on concurrent work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from aiohttp import web

from worker.errors import BadSelection, StoreError, StreamError
from worker.model.causes import StoreCause

if TYPE_CHECKING:
    from worker.archive import Archive
    from worker.settings import Settings
    from worker.stores.base import Store
    from worker.stream.client import Client

MOST_TEXT = 1024
"""Characters of a parameter: ids have 256 bytes at most."""

MIB = 1024 * 1024


class Busy(web.HTTPServiceUnavailable):
    """As many requests of this kind are under way as may be; the browser tries again."""

    def __init__(self, what: str) -> None:
        super().__init__(text=f"too many {what} at once: try again", headers={"Retry-After": "1"})


class Bound:
    """Lets at most `most` requests of one kind work at once."""

    def __init__(self, most: int, what: str) -> None:
        self._most = most
        self._what = what
        self.used = 0

    @contextmanager
    def taken(self) -> Iterator[None]:
        """A place for the block. Raises `Busy` if there is none."""
        if self.used >= self._most:
            raise Busy(self._what)
        self.used += 1
        try:
            yield
        finally:
            self.used -= 1


@dataclass(frozen=True, slots=True)
class PageLimits:
    """How much the page may do at once; bytes are of memory."""

    listeners: Bound = field(default_factory=lambda: Bound(8, "listeners"))
    waveforms: Bound = field(default_factory=lambda: Bound(3, "waveforms"))
    searches: Bound = field(default_factory=lambda: Bound(8, "searches"))
    followers: Bound = field(default_factory=lambda: Bound(24, "live views"))
    audio_bytes: int = 24 * MIB
    peak_bytes: int = 8 * MIB
    recordings: int = 8
    connections: int = 256


@dataclass(frozen=True, slots=True)
class PageOptions:
    """How the page is offered: where it listens, under which names, and what it may change."""

    host: str = "127.0.0.1"
    port: int = 0
    names: tuple[str, ...] = ()
    allow_replay: bool = False


@dataclass(frozen=True, slots=True)
class Site:
    """The shared objects. `store` and `archive` are None without STORE_URL, `client` is None without Redis."""

    settings: Settings
    page: PageOptions
    store: Store | None
    archive: Archive | None
    client: Client | None
    clock: Callable[[], float]
    limits: PageLimits = field(default_factory=PageLimits)

    def need_archive(self) -> Archive:
        """The archive. Raises `StoreError` without a store."""
        if self.archive is None:
            raise StoreError("STORE_URL is not set: stored audio can't be shown", cause=StoreCause.MISSING_BUCKET)
        return self.archive

    def need_store(self) -> Store:
        """The store. Raises `StoreError` without one."""
        self.need_archive()
        return cast("Store", self.store)

    def need_client(self) -> Client:
        """The client of Redis. Raises `StreamError` without one."""
        if self.client is None:
            raise StreamError("REDIS_URL is not set: what happens in Redis can't be shown")
        return self.client


SITE = web.AppKey("site", Site)


def site_of(request: web.Request) -> Site:
    """The shared objects of the server that got the request."""
    return request.app[SITE]


def parameter(request: web.Request, name: str) -> str:
    """A parameter of the address that must be there. Raises `BadSelection`."""
    value = optional(request, name)
    if not value:
        raise BadSelection(f"the address lacks the parameter {name}")
    return value


def optional(request: web.Request, name: str) -> str:
    """A parameter of the address, empty if it is not there. Raises `BadSelection` if it is too long."""
    value = request.query.get(name, "")
    if len(value) > MOST_TEXT:
        raise BadSelection(f"the parameter {name} has more than {MOST_TEXT} characters")
    return value


def number(request: web.Request, name: str, default: int, most: int) -> int:
    """A parameter that is a whole number from 0 to `most`. Raises `BadSelection`."""
    text = optional(request, name) or str(default)
    if not text.isascii() or not text.isdigit() or len(text) > 18 or int(text) > most:
        raise BadSelection(f"the parameter {name} must be a number from 0 to {most:,}")
    return int(text)
