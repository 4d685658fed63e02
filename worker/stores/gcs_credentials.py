"""Access tokens for Google Cloud Storage: Application Default Credentials and Workload Identity by gcloud-aio-auth."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import jwt
from gcloud.aio.auth import Token
from tenacity import stop_after_attempt

from worker.errors import SettingsError, StoreError
from worker.model.causes import StoreCause
from worker.stores.gcs_errors import FOREIGN

SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"
VARIABLE = "GOOGLE_APPLICATION_CREDENTIALS"

# An unusable private key may raise PyJWTError too.
FOREIGN_AUTH = (*FOREIGN, jwt.PyJWTError)


class Credentials(Token):
    """A token fetched once for all requests and in a single attempt; the caller retries with its own backoff.

    Raises:
        SettingsError: GOOGLE_APPLICATION_CREDENTIALS is set, but does not name usable credentials.
    """

    # The library would make five attempts, up to minutes apart, before the caller learns of a failure.
    acquire_access_token = Token.acquire_access_token.retry_with(stop=stop_after_attempt(1))

    def __init__(self, session: Any) -> None:  # noqa: ANN401 -- the library's type depends on other installed packages
        try:
            super().__init__(session=session, scopes=[SCOPE])
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise SettingsError(f"{VARIABLE} does not name usable credentials: {error!r}") from error
        # The library ignores an unreadable or malformed file and goes on to the metadata server.
        if os.environ.get(VARIABLE) and not self.service_data:
            raise SettingsError(f"{VARIABLE} names a file that cannot be read or is not JSON")
        self._turn = asyncio.Lock()

    async def get(self) -> str | None:
        """The current token.

        Raises:
            StoreError: a token can't be fetched at the moment; cause "credentials".
        """
        # All waiting callers share one refresh task, and cancelling one of them would cancel it: so only one waits.
        async with self._turn:
            try:
                return await super().get()
            except FOREIGN_AUTH as error:
                raise StoreError(
                    f"no access token for Google Cloud Storage: {type(error).__name__}; "
                    f"set {VARIABLE} or bind the pod's service account by Workload Identity",
                    cause=StoreCause.CREDENTIALS,
                ) from error

    def forget(self) -> None:
        """Drop a token that the store has refused, so that the next request fetches another."""
        self.access_token = None

    async def close(self) -> None:
        """Stop a refresh in the background; the owner of the session closes the session."""
        if self.acquiring is not None:
            self.acquiring.cancel()
            await asyncio.gather(self.acquiring, return_exceptions=True)
