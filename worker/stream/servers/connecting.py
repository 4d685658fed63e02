"""Connections to the servers that REDIS_URL names: no silent retries, bounded replies, one time-out for everything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from redis import DriverInfo
from redis.asyncio import Redis
from redis.asyncio.connection import (
    AbstractConnection,
    Connection,
    ConnectionPool,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from worker import __version__
from worker.stream.servers.address import Place, RedisAddress, parse
from worker.stream.servers.certificates import check_files
from worker.stream.servers.reply_limit import BoundedParser
from worker.stream.servers.sentinels import ElectedConnection, ElectedPool, ElectedSSLConnection, Sentinels

READ_SIZE = 256 * 1024
"""Bytes per socket read: 10-20 % less client CPU than the library's 32 KiB when entries are 160 kB."""

_CONNECTIONS: Mapping[str, type[AbstractConnection]] = {
    "redis": Connection,
    "rediss": SSLConnection,
    "unix": UnixDomainSocketConnection,
}


class Connector:
    """Opens clients of the servers of one REDIS_URL; `seeds` are the places that it names.

    A command of such a client raises an error after `timeout` seconds at the latest, and is never repeated. The library
    repeats commands by default. A repeated command that had succeeded would take effect twice, unnoticed.
    """

    def __init__(self, address: RedisAddress, timeout: float) -> None:
        self._address = address
        self._timeout = timeout

    @property
    def seeds(self) -> Sequence[Place]:
        """The places that REDIS_URL names; a primary that sentinels know has its name as its place."""
        return [Place(self._address.service)] if self._address.service else self._address.places

    def open(self, place: Place) -> Redis:
        """A client of one server; it connects with its first command."""
        return Redis.from_pool(self.pool(place))

    def pool(self, place: Place) -> ConnectionPool:
        """The connections to one server."""
        arguments = self._arguments() | self._address.arguments()
        if self._address.service:
            elected = ElectedSSLConnection if self._address.tls else ElectedConnection
            return ElectedPool(self._sentinels(), connection_class=elected, **arguments)
        return self._pool(place, arguments)

    def _sentinels(self) -> Sentinels:
        arguments = self._arguments() | self._address.sentinel_arguments()
        clients = {place: Redis.from_pool(self._pool(place, arguments)) for place in self._address.places}
        return Sentinels(self._address.service, clients)

    def _pool(self, place: Place, arguments: Mapping[str, Any]) -> ConnectionPool:
        scheme = self._address.scheme
        where = {"path": place.host} if scheme == "unix" else {"host": place.host, "port": place.port}
        return ConnectionPool(connection_class=_CONNECTIONS[scheme], **where, **arguments)

    def _arguments(self) -> dict[str, Any]:
        return {
            "protocol": 2,
            "retry": Retry(NoBackoff(), 0),
            "socket_timeout": self._timeout,
            "socket_connect_timeout": self._timeout,
            "socket_read_size": READ_SIZE,
            "parser_class": BoundedParser,
            "driver_info": DriverInfo().add_upstream_driver("audio-batch-worker", __version__),
        }

    def __repr__(self) -> str:
        """The address without user and password."""
        return f"{type(self).__name__}({self._address})"


def connect(url: str, *, timeout: float = 5.0) -> Connector:
    """The way to the servers of REDIS_URL; opens nothing.

    Raises:
        SettingsError: REDIS_URL can't be understood, or names a file that can't be used.
    """
    address = parse(url)
    check_files(address)
    return Connector(address, timeout)
