"""Google's Application Default Credentials and Workload Identity, as access tokens, by gcloud-aio-auth."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Any

import aiohttp
import jwt
from gcloud.aio.auth import Token
from tenacity import stop_after_attempt

from worker.errors import SettingsError

VARIABLE = "GOOGLE_APPLICATION_CREDENTIALS"
ADVICE = f"set {VARIABLE} or bind the pod's service account by Workload Identity"

MALFORMED = (ValueError, LookupError, TypeError, AttributeError, RecursionError)
"""The libraries' errors when a reply is not the JSON that they expect."""

FAILURES = (aiohttp.ClientError, TimeoutError, OSError, *MALFORMED, jwt.PyJWTError)
"""All errors of a request for a token. An unusable private key may raise PyJWTError."""


class GoogleCredentials(Token):
    """A token fetched once for all who ask, and in a single attempt; the caller retries with its own backoff.

    Raises:
        SettingsError: GOOGLE_APPLICATION_CREDENTIALS is set, but does not name usable credentials.
    """

    # The library would make five attempts, up to minutes apart, before the caller learns of a failure.
    acquire_access_token = Token.acquire_access_token.retry_with(stop=stop_after_attempt(1))

    def __init__(self, session: Any, scopes: Sequence[str]) -> None:  # noqa: ANN401 -- the library's type depends on other installed packages
        try:
            super().__init__(session=session, scopes=list(scopes))
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise SettingsError(f"{VARIABLE} does not name usable credentials: {error!r}") from error
        # The library ignores an unreadable or malformed file and goes on to the metadata server.
        if os.environ.get(VARIABLE) and not self.service_data:
            raise SettingsError(f"{VARIABLE} names a file that cannot be read or is not JSON")
        self._turn = asyncio.Lock()

    async def get(self) -> str | None:
        """The current token; raises one of `FAILURES`."""
        # All waiting callers share one refresh task, and cancelling one of them would cancel it: so only one waits.
        async with self._turn:
            return await super().get()

    def forget(self) -> None:
        """Drop a token that was refused, so that the next request fetches another."""
        self.access_token = None

    async def close(self) -> None:
        """Stop a refresh in the background; the owner of the session closes the session."""
        if self.acquiring is not None:
            self.acquiring.cancel()
            await asyncio.gather(self.acquiring, return_exceptions=True)
