"""REDIS_AUTH=google-iam: an access token of Google's is the password, as Memorystore takes it.

A token lives for an hour, and a connection outlives its token. So only new connections need the current one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import aiohttp
import structlog
from redis.credentials import CredentialProvider
from redis.exceptions import ConnectionError as BrokenConnection

from worker.runtime.google_credentials import ADVICE, FAILURES, GoogleCredentials

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
USER = "default"
RENEW_AFTER = 0.8
"""Share of a token's life after which the next connection fetches another."""

log = structlog.get_logger()


class GoogleIam(CredentialProvider):
    """User and password for all connections to Redis; they share one token, because Google limits how many it gives."""

    def __init__(self, user: str | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._user = user or USER
        self._clock = clock
        self._turn = asyncio.Lock()
        self._token = ""
        self._renew_at = self._ends_at = float("-inf")

    def get_credentials(self) -> tuple[str, str]:
        """Not for connections that block."""
        raise NotImplementedError("only asyncio connections get an access token")

    async def get_credentials_async(self) -> tuple[str, str]:
        """User and token.

        Raises:
            SettingsError: the credentials that the environment names are not usable.
            BrokenConnection: a token can't be fetched at the moment.
        """
        async with self._turn:
            if self._clock() >= self._renew_at:
                await self._renew()
            return self._user, self._token

    def refused(self) -> str:
        """Fetch another token for the next connection; returns what a person can do."""
        self._renew_at = self._ends_at = float("-inf")
        return "the password was an access token: its account needs roles/redis.dbConnectionUser"

    async def _renew(self) -> None:
        asked_at = self._clock()
        try:
            token, seconds = await _fetch()
        except FAILURES as error:
            text = f"no access token for Redis: {type(error).__name__}; {ADVICE}"
            if asked_at >= self._ends_at:
                raise BrokenConnection(text) from error
            log.warning("redis.token_not_renewed", error=text, ends_in_s=round(self._ends_at - asked_at))
            return
        self._token, self._ends_at = token, asked_at + seconds
        self._renew_at = asked_at + RENEW_AFTER * seconds


async def _fetch() -> tuple[str, float]:
    """A token, and for how many seconds it lives."""
    async with aiohttp.ClientSession() as session:
        credentials = GoogleCredentials(session, [SCOPE])
        token = await credentials.get()
        if not token:
            raise ValueError("an empty token")
        return token, float(credentials.access_token_duration)
