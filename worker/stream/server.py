"""Checks and observes the Redis server: it must be new enough, must never evict pending audio, and should keep it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from redis.exceptions import AuthenticationError, AuthorizationError, NoPermissionError, ResponseError

from worker.errors import SettingsError, StreamError
from worker.model.states import RedisPersistence
from worker.stream.client import USERS, Client

OLDEST_VERSION = (7, 0)
"""The first with script flags (allow-oom), and with an XCLAIM that drops pending ids whose entry is gone."""

log = structlog.get_logger()

_NO_SUCH_DATABASE = re.compile(r"DB index|SELECT is not allowed")


async def check_server(client: Client) -> str:
    """Make sure that audio is safe in this Redis, and set the client's `slots_apart`; returns Redis' version.

    Raises:
        SettingsError: it is too old, evicts keys of any kind, or refuses our credentials or the database's number.
        StreamError: it can't be reached.
    """
    try:
        facts = await client.command(lambda redis: redis.info())
    except StreamError as error:
        if isinstance(error.__cause__, (AuthenticationError, AuthorizationError, NoPermissionError)):
            advice = f"; {USERS}" if isinstance(error.__cause__, NoPermissionError) else ""
            raise SettingsError(f"REDIS_URL: Redis refuses the user or password: {error.__cause__}{advice}") from None
        if isinstance(error.__cause__, ResponseError) and _NO_SUCH_DATABASE.search(str(error.__cause__)):
            raise SettingsError(
                f"REDIS_URL: Redis refuses the database: {error.__cause__}; give another number after the port, or none"
            ) from None
        raise
    client.slots_apart = facts.get("redis_mode") == "cluster"
    version = str(facts["redis_version"])
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_VERSION:
        raise SettingsError(f"REDIS_URL: Redis {version} is too old; 7.0 or newer is needed")
    policy = str(facts.get("maxmemory_policy", "noeviction"))
    if policy.startswith("allkeys"):
        raise SettingsError(
            f"REDIS_URL: Redis evicts pending audio with maxmemory-policy {policy}: set maxmemory-policy noeviction"
        )
    if policy != "noeviction":
        # Audio and tombstones stay. But leases, identities of stored chunks and withdrawn uploads expire and may go.
        log.warning("redis.may_forget", policy=policy)
    return version


@dataclass(frozen=True, slots=True)
class ServerState:
    """What may become of audio in Redis: memory in bytes, `memory_limit` 0 without one, `policy` None if not told."""

    memory: int
    memory_limit: int
    policy: str | None
    persistence: RedisPersistence
    replicas: int


async def server_state(client: Client) -> ServerState:
    """Look at Redis' memory, its eviction policy and what keeps its data through a crash.

    Raises:
        StreamError: it can't be reached.
    """
    facts = await client.command(lambda redis: redis.info("memory", "persistence", "replication"))
    return ServerState(
        memory=int(facts["used_memory"]),
        memory_limit=int(facts.get("maxmemory", 0)),
        policy=facts.get("maxmemory_policy"),
        persistence=persistence_of(facts),
        replicas=int(facts.get("connected_slaves", 0)),
    )


def persistence_of(facts: Mapping[str, Any]) -> RedisPersistence:
    """The state of the append-only file, from the facts of INFO."""
    if not facts.get("aof_enabled"):
        return RedisPersistence.OFF
    written = facts.get("aof_last_write_status", "ok") == "ok"
    return RedisPersistence.ON if written else RedisPersistence.FAILING
