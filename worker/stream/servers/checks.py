"""Checks and observes the Redis servers: new enough, never evicting pending audio, and better with persistence."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from redis.exceptions import AuthenticationError, AuthorizationError, NoPermissionError, ResponseError

from worker.errors import SettingsError, StreamError
from worker.model.causes import StreamCause
from worker.model.states import RedisPersistence
from worker.stream.client import Client
from worker.stream.servers.address import SENTINEL_FORM
from worker.stream.servers.failures import is_hiding
from worker.stream.servers.node import Node
from worker.stream.servers.sentinels import UnknownPrimary
from worker.stream.servers.topology import NoCluster

OLDEST_VERSION = (7, 0)
"""The first with script flags (allow-oom), and with an XCLAIM that drops pending ids whose entry is gone."""

UNKNOWN = "unknown"
"""Stands for a fact that a server does not tell."""

log = structlog.get_logger()

_NO_SUCH_DATABASE = re.compile(r"DB index|SELECT is not allowed")


async def check_servers(client: Client) -> list[str]:
    """Make sure that audio is safe in all servers that answer; returns their versions.

    Raises:
        SettingsError: one is too old, evicts keys of any kind, or refuses our credentials or the database's number.
        StreamError: none can be reached.
    """
    try:
        nodes = await client.find_nodes()
    except StreamError as error:
        raise _wrong_setting(error) or error from None
    replies = await asyncio.gather(*map(_checked, nodes), return_exceptions=True)
    for node, reply in zip(nodes, replies, strict=True):
        if isinstance(reply, StreamError) and len(nodes) > 1:
            log.warning("redis.node_unreachable", node=node.name, error=str(reply))
        elif isinstance(reply, BaseException):
            raise reply
    return sorted({reply for reply in replies if isinstance(reply, str)})


async def _checked(node: Node) -> str:
    try:
        facts = await _facts(node)
    except StreamError as error:
        raise _wrong_setting(error) or error from None
    version = str(facts["redis_version"])
    if "valkey_version" not in facts and tuple(int(part) for part in version.split(".")[:2]) < OLDEST_VERSION:
        raise SettingsError(f"REDIS_URL: Redis {version} is too old; 7.0 or newer is needed")
    policy = str(facts.get("maxmemory_policy", "noeviction"))
    if policy.startswith("allkeys"):
        raise SettingsError(
            f"REDIS_URL: Redis evicts pending audio with maxmemory-policy {policy}: set maxmemory-policy noeviction"
        )
    if policy != "noeviction":
        # Audio and tombstones stay. But leases, identities of stored chunks and withdrawn uploads expire and may go.
        log.warning("redis.may_forget", policy=policy, node=node.name)
    return version_of(facts)


async def _facts(node: Node) -> Mapping[str, Any]:
    """The facts of INFO; without the right to it the few that every connection may know, under the same names."""
    try:
        facts: Mapping[str, Any] = await node.command(lambda pipe: pipe.info())
    except StreamError as error:
        if not is_hiding(error.__cause__):
            raise
        flat = await node.command(lambda pipe: pipe.execute_command("HELLO"))
        told = {name.decode(): value for name, value in zip(flat[::2], flat[1::2], strict=True)}
        kind, version, role = (bytes(told[name]).decode() for name in ("server", "version", "role"))
        facts = {"redis_version": version, "role": "slave" if role == "replica" else role}
        return facts | ({"valkey_version": version} if kind == "valkey" else {})
    return facts


def _wrong_setting(error: StreamError) -> SettingsError | None:
    """What is wrong with REDIS_URL, if an error tells that."""
    reason = error.__cause__
    if isinstance(reason, UnknownPrimary):
        return SettingsError(
            f"REDIS_URL: {reason}: give the name that follows `sentinel monitor` in their configuration"
        )
    if isinstance(reason, NoPermissionError):
        return SettingsError(f"REDIS_URL: {error}")
    if isinstance(reason, (AuthenticationError, AuthorizationError)):
        return SettingsError(f"REDIS_URL: Redis refuses the user or password: {reason}")
    if isinstance(reason, NoCluster):
        return SettingsError(f"{reason}; name that server alone, or sentinels: {SENTINEL_FORM}")
    if isinstance(reason, ResponseError) and _NO_SUCH_DATABASE.search(str(reason)):
        return SettingsError(
            f"REDIS_URL: Redis refuses the database: {reason}; give another number after the port, or none"
        )
    return None


@dataclass(frozen=True, slots=True)
class ServerState:
    """What may become of audio in a server: memory in bytes, `memory_limit` 0 without one.

    `policy` is "unknown" if it is not told. `saving` is the state of the append-only file. If the server `is_hidden`,
    it tells nothing but its version and role.
    """

    name: str
    version: str
    role: str
    memory: int
    memory_limit: int
    policy: str
    saving: RedisPersistence
    replicas: int
    is_hidden: bool = False

    @property
    def room(self) -> float:
        """Bytes that it can still take."""
        return self.memory_limit - self.memory if self.memory_limit else float("inf")


async def server_states(client: Client) -> list[ServerState | StreamError]:
    """Look at every server's memory, its eviction policy and what keeps its data through a crash.

    Raises:
        StreamError: none can be reached.
    """
    return await asyncio.gather(*map(_state, await client.find_nodes()))


async def _state(node: Node) -> ServerState | StreamError:
    try:
        facts = await _facts(node)
    except StreamError as error:
        return StreamError(f"{node.name}: {error}", cause=error.cause)
    is_hidden = "used_memory" not in facts
    return ServerState(
        name=node.name,
        version=version_of(facts),
        role=str(facts.get("role", UNKNOWN)),
        memory=int(facts.get("used_memory", 0)),
        memory_limit=int(facts.get("maxmemory", 0)),
        policy=str(facts.get("maxmemory_policy", UNKNOWN)),
        saving=RedisPersistence.UNKNOWN if is_hidden else persistence_of(facts),
        replicas=int(facts.get("connected_slaves", 0)),
        is_hidden=is_hidden,
    )


def version_of(facts: Mapping[str, Any]) -> str:
    """Name and version of the program, from the facts of INFO: Valkey calls itself a Redis 7.2 as well."""
    if "valkey_version" in facts:
        return f"Valkey {facts['valkey_version']}"
    return str(facts["redis_version"])


def persistence_of(facts: Mapping[str, Any]) -> RedisPersistence:
    """The state of the append-only file, from the facts of INFO."""
    if not facts.get("aof_enabled"):
        return RedisPersistence.OFF
    written = facts.get("aof_last_write_status", "ok") == "ok"
    return RedisPersistence.ON if written else RedisPersistence.FAILING


async def count_replicas(node: Node) -> int:
    """How many replicas a server has.

    Raises:
        StreamError: the server can't be reached, or tells by neither of two commands.
    """
    info, role = await node.pipeline(lambda pipe: (pipe.info("replication"), pipe.role()))
    if isinstance(info, dict) and "connected_slaves" in info:
        return int(info["connected_slaves"])
    if not isinstance(role, Exception):
        return len(role[2]) if role[0] in (b"master", "master") else 0
    text = f"{node.name} does not tell how many replicas it has: allow this user +role or +info"
    raise StreamError(text, cause=StreamCause.REFUSED) from role
