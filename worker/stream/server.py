"""Checks the Redis server: it must be new enough, and must never evict pending audio."""

from __future__ import annotations

import re

import structlog
from redis.exceptions import AuthenticationError, AuthorizationError, NoPermissionError, ResponseError

from worker.errors import SettingsError, StreamError
from worker.stream.client import Client

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
            raise SettingsError(f"REDIS_URL: Redis refuses the user or password: {error.__cause__}") from None
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


async def memory_use(client: Client) -> tuple[int, int]:
    """Bytes that Redis uses, and its limit (0 without one)."""
    facts = await client.command(lambda redis: redis.info("memory"))
    return int(facts["used_memory"]), int(facts.get("maxmemory", 0))
