"""Redis Sentinel: where the primary is, and connections that follow it.

While sentinels move the primary in good order, the old one takes writes for seconds after the new one was chosen, and
loses them. So connections don't wait until it refuses them: the sentinels are asked again every second.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.asyncio.connection import Connection, SSLConnection
from redis.exceptions import AuthenticationError, NoPermissionError, ReadOnlyError, RedisError, ResponseError
from redis.exceptions import ConnectionError as BrokenConnection

from worker.runtime.tasks import end
from worker.stream.servers.address import Place
from worker.stream.servers.pool import Pool

STAGGER = 0.2
"""Seconds after which the next sentinel is asked, too."""

LOOK_EVERY = 1.0
"""Seconds between two questions while connections are in use."""

LOOK_PATIENCE = 0.1
"""Seconds that a request waits for such an answer; without one it goes where the requests before it went."""

WHERE = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME")

log = structlog.get_logger()


class UnknownPrimary(BrokenConnection):
    """The sentinels answer, but know no primary of this name."""


class Sentinels:
    """Knows where the primary named `service` is; `known` is what a sentinel has said last."""

    def __init__(
        self, service: str, clients: Mapping[Place, Redis], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._service = service
        self._clients = deque(clients.items())
        self._clock = clock
        self._turn = asyncio.Lock()
        self._answered_at = float("-inf")
        self.known: Place | None = None

    async def primary(self) -> Place:
        """Ask where the primary is; all who ask at the same time share one answer.

        Raises:
            RedisError: no sentinel answers, they refuse us, or they know no such primary.
        """
        began = self._clock()
        async with self._turn:
            if self.known is None or self._answered_at < began:
                found = await self._first_answer()
                if found != self.known:
                    log.info("redis.primary", service=self._service, place=str(found), before=str(self.known or ""))
                self.known, self._answered_at = found, self._clock()
            return self.known

    def doubt(self) -> None:
        """Ask another sentinel first the next time: this one has named a server that is not a primary."""
        self._clients.rotate(-1)

    async def close(self) -> None:
        """Close all connections to sentinels."""
        for _, client in self._clients:
            await client.aclose()

    async def _first_answer(self) -> Place:
        """Ask one sentinel after the other; one that is slow, or hangs, does not delay the next for long."""
        untried = list(self._clients)
        asking: set[asyncio.Task[Place | RedisError]] = set()
        failures: list[RedisError] = []
        try:
            while untried or asking:
                if untried:
                    asking.add(asyncio.create_task(self._ask(*untried.pop(0))))
                patience = STAGGER if untried else None
                done, asking = await asyncio.wait(asking, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
                for answer in [task.result() for task in done]:
                    if isinstance(answer, Place):
                        return answer
                    failures.append(answer)
        finally:
            await end(asking)
        raise _most_telling(failures)

    async def _ask(self, place: Place, client: Redis) -> Place | RedisError:
        try:
            reply = await client.execute_command(*WHERE, self._service)  # type: ignore[no-untyped-call]
        except RedisError as error:
            return _named(error, place)
        if reply is None:
            return UnknownPrimary(f"the sentinel {place} knows no primary named {self._service}")
        while self._clients[0][0] != place:  # this one answers: it is asked first from now on
            self._clients.rotate(1)
        host, port = reply
        return Place(host.decode(), int(port))


def _named(error: RedisError, place: Place) -> RedisError:
    """The same error, with the name of the sentinel."""
    kind = next((kind for kind in (AuthenticationError, NoPermissionError) if isinstance(error, kind)), None)
    return (kind or BrokenConnection)(f"the sentinel {place}: {error}")


def _most_telling(failures: list[RedisError]) -> RedisError:
    """A refusal tells more than silence."""
    refusals = [error for error in failures if isinstance(error, AuthenticationError | NoPermissionError)]
    unknown = [error for error in failures if isinstance(error, UnknownPrimary)]
    return [*refusals, *unknown, *failures][0]


class ElectedConnection(Connection):
    """A connection to the primary: whenever it is made anew, it asks where that is, and makes sure that it is one."""

    def __init__(self, *, sentinels: Sentinels, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._sentinels = sentinels

    async def connect_check_health(self, check_health: bool = True, retry_socket_connect: bool = True) -> None:
        """Connect to where the primary is now."""
        if self.is_connected:
            return
        self.host, self.port = await self._sentinels.primary()
        await super().connect_check_health(check_health, retry_socket_connect)
        if await self._role() not in (b"master", None):
            await self.disconnect()
            self._sentinels.doubt()
            raise ReadOnlyError(f"{self.host}:{self.port}, which the sentinels name, is not a primary")

    async def _role(self) -> bytes | None:
        """The server's role; None if it does not tell."""
        try:
            await self.send_command("ROLE", check_health=False)
            role: bytes = (await self.read_response())[0]
        except ResponseError:
            return None
        return role


class ElectedSSLConnection(ElectedConnection, SSLConnection):
    """The same, encrypted."""


class ElectedPool(Pool):
    """Connections to the primary that sentinels have elected; none is given out that leads to a former one."""

    def __init__(self, sentinels: Sentinels, clock: Callable[[], float] = time.monotonic, **arguments: Any) -> None:
        super().__init__(sentinels=sentinels, **arguments)
        self._sentinels = sentinels
        self._clock = clock
        self._looked_at = clock()
        self._looking: asyncio.Task[None] | None = None

    async def get_connection(self, *_: object, **__: object) -> Any:
        """A connection to the primary, which is looked up again now and then."""
        if self._looking is None and self._clock() >= self._looked_at + LOOK_EVERY:
            self._looking = asyncio.create_task(self._look())
        if self._looking is not None:
            await asyncio.wait({self._looking}, timeout=LOOK_PATIENCE)
        return await super().get_connection()  # type: ignore[no-untyped-call]

    async def ensure_connection(self, connection: Any) -> None:
        """Connect; a connection to a former primary is made anew."""
        if connection.is_connected and (connection.host, connection.port) != self._sentinels.known:
            await connection.disconnect()
        await super().ensure_connection(connection)

    async def aclose(self) -> None:
        """Close all connections, those to sentinels too."""
        await end([self._looking] if self._looking else [])
        await super().aclose()
        await self._sentinels.close()

    async def _look(self) -> None:
        try:
            await self._sentinels.primary()
        except RedisError as error:  # the primary may well be where it was
            log.debug("redis.sentinels_silent", error=str(error))
        finally:
            self._looked_at, self._looking = self._clock(), None
