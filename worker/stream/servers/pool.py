"""The connections to one server."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from redis.asyncio.connection import ConnectionPool
from redis.exceptions import AuthenticationError


@runtime_checkable
class Renewable(Protocol):
    """Gives passwords that can be renewed, see `GoogleIam`."""

    def refused(self) -> str:
        """Renew the password for the next connection; returns what a person can do."""


class Pool(ConnectionPool):
    """The library's pool, which tells whoever gives passwords that one was refused."""

    async def ensure_connection(self, connection: Any) -> None:
        """Connect, unless the connection is alive."""
        try:
            await super().ensure_connection(connection)
        except AuthenticationError as error:
            if isinstance(connection.credential_provider, Renewable):
                raise AuthenticationError(f"{error}; {connection.credential_provider.refused()}") from error
            raise
