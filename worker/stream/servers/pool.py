"""The connections to one server, and whether it is still the same one.

The library silently replaces a connection that the server has closed. If the server does not tell who it is, because
INFO is refused, a failover would stay unnoticed. Then the pool watches for it. It lets the server cache a script of its
own, which no other server process has, and looks for it with every new connection.
"""

from __future__ import annotations

import secrets
from hashlib import sha1
from typing import Any, Protocol, runtime_checkable
from weakref import WeakSet

from redis.asyncio.connection import ConnectionPool
from redis.exceptions import AuthenticationError, NoScriptError
from redis.exceptions import ConnectionError as BrokenConnection


@runtime_checkable
class Renewable(Protocol):
    """Gives passwords that can be renewed, see `GoogleIam`."""

    def refused(self) -> str:
        """Renew the password for the next connection; returns what a person can do."""


class Pool(ConnectionPool):
    """The library's pool, which tells the source of passwords that one was refused, and may watch its server."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._fresh: WeakSet[Any] = WeakSet()  # connected, and not checked yet
        self._alive: WeakSet[Any] = WeakSet()  # checked; their last user has not seen them break
        self._mark = ""

    async def watch(self) -> None:
        """Raise an error once, from now on, when a request may be answered by another server than those before.

        Raises:
            RedisError: the server can't be reached, or refuses EVAL.
        """
        if self._mark:
            return
        await self._renew()
        script = f"return '{secrets.token_hex(16)}'"
        connection = await self.get_connection()  # type: ignore[no-untyped-call]
        try:
            await connection.send_command("EVAL", script, 0)
            await connection.read_response()
        finally:
            await self.release(connection)
        self._mark = sha1(script.encode(), usedforsecurity=False).hexdigest()

    def make_connection(self) -> Any:
        """A connection that tells when it connects."""
        connection = super().make_connection()  # type: ignore[no-untyped-call]
        connection.register_connect_callback(self._fresh.add)
        return connection

    async def ensure_connection(self, connection: Any) -> None:
        """Connect, unless the connection is alive.

        Raises:
            BrokenConnection: the pool watches its server, and the connection may lead to another one.
        """
        try:
            await super().ensure_connection(connection)
        except AuthenticationError as error:
            if isinstance(connection.credential_provider, Renewable):
                raise AuthenticationError(f"{error}; {connection.credential_provider.refused()}") from error
            raise
        if connection in self._fresh:
            self._fresh.discard(connection)
            if self._mark and (connection in self._alive or not await self._has_mark(connection)):
                self._mark = ""
                await self._renew()
                raise BrokenConnection("the connection was lost, and the server does not tell whether it is the same")
        self._alive.add(connection)

    async def release(self, connection: Any) -> None:
        """Take a connection back; its last user has seen if it broke."""
        await super().release(connection)
        if not connection.is_connected:
            self._alive.discard(connection)

    async def disconnect(self, inuse_connections: bool = True) -> None:
        """Close connections, also those in use if `inuse_connections`."""
        await super().disconnect(inuse_connections)
        self._alive = WeakSet(connection for connection in self._alive if connection.is_connected)

    async def _renew(self) -> None:
        """Let every connection be made anew before its next use."""
        await self.update_active_connections_for_reconnect()  # type: ignore[no-untyped-call]
        await self.disconnect(inuse_connections=False)

    async def _has_mark(self, connection: Any) -> bool:
        await connection.send_command("EVALSHA", self._mark, 0)
        try:
            await connection.read_response()
        except NoScriptError:
            return False
        return True
