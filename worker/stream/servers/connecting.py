"""Connections to the servers that REDIS_URL names: no silent retries, bounded replies, one time-out for everything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import structlog
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
from worker.stream.servers.address import Auth, Place, RedisAddress, parse_address
from worker.stream.servers.certificates import check_files
from worker.stream.servers.pool import Pool
from worker.stream.servers.reply_limit import BoundedParser
from worker.stream.servers.sentinels import ElectedConnection, ElectedPool, ElectedSSLConnection, Sentinels

READ_SIZE = 256 * 1024
"""Bytes per socket read: 10-20 % less client CPU than the library's 32 KiB when entries are 160 kB."""

_CONNECTIONS: Mapping[str, type[AbstractConnection]] = {
    "redis": Connection,
    "rediss": SSLConnection,
    "unix": UnixDomainSocketConnection,
}


log = structlog.get_logger()


class Connector:
    """Opens clients of the servers of one REDIS_URL; `seeds` are the places that it names.

    A command of such a client raises an error after `timeout` seconds at the latest, and is never repeated. The library
    repeats commands by default. A repeated command that had succeeded would take effect twice, unnoticed.
    """

    def __init__(self, address: RedisAddress, timeout: float) -> None:
        self._address = address
        self._timeout = timeout
        self._login = _tokens(address.user) if address.auth is Auth.GOOGLE_IAM else {}

    @property
    def seeds(self) -> Sequence[Place]:
        """The places that REDIS_URL names; a primary that sentinels know has its name as its place."""
        return [Place(self._address.service)] if self._address.service else self._address.places

    def open(self, place: Place) -> Redis:
        """A client of one server; it connects with its first command."""
        return Redis.from_pool(self.pool(place))

    def pool(self, place: Place) -> ConnectionPool:
        """The connections to one server."""
        arguments = self._arguments() | self._address.arguments() | self._login
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
        return Pool(connection_class=_CONNECTIONS[scheme], **where, **arguments)

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


def _tokens(user: str | None) -> dict[str, Any]:
    from worker.stream.servers.google_iam import GoogleIam  # noqa: PLC0415 -- its library loads slowly, and few need it

    return {"credential_provider": GoogleIam(user), "username": None}


def connect(url: str, *, timeout: float = 5.0) -> Connector:
    """The way to the servers of REDIS_URL; opens nothing.

    Raises:
        SettingsError: REDIS_URL can't be understood, or names a file that can't be used.
    """
    address = parse_address(url)
    check_files(address)
    if address.options.get("ssl_cert_reqs") == "none":
        log.warning(
            "redis.unverified", address=str(address), meaning="any server that answers there is taken for Redis"
        )
    return Connector(address, timeout)
