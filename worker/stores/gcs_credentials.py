"""Access tokens for Google Cloud Storage."""

from __future__ import annotations

from typing import Any

from worker.errors import StoreError
from worker.model.causes import StoreCause
from worker.runtime.google_credentials import ADVICE, FAILURES, GoogleCredentials
from worker.stores.gcs_errors import FOREIGN

SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"
FOREIGN_AUTH = (*FOREIGN, *FAILURES)


class Credentials(GoogleCredentials):
    """The credentials that may read and write objects.

    Raises:
        SettingsError: GOOGLE_APPLICATION_CREDENTIALS is set, but does not name usable credentials.
    """

    def __init__(self, session: Any) -> None:  # noqa: ANN401 -- see the base class
        super().__init__(session, [SCOPE])

    async def get(self) -> str | None:
        """The current token.

        Raises:
            StoreError: a token can't be fetched at the moment; cause "credentials".
        """
        try:
            return await super().get()
        except FOREIGN_AUTH as error:
            raise StoreError(
                f"no access token for Google Cloud Storage: {type(error).__name__}; {ADVICE}",
                cause=StoreCause.CREDENTIALS,
            ) from error
