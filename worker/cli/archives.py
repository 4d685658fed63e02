"""Opens the archive that the environment describes, for commands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, TypeVar

from worker.cli.printing import say
from worker.errors import SettingsError, StoreError
from worker.model.causes import StoreCause

if TYPE_CHECKING:
    from stamina.instrumentation import RetryDetails

    from worker.archive import Archive
    from worker.settings import Settings
    from worker.stores.base import Store


T = TypeVar("T")

SURROUNDINGS = (
    StoreCause.PERMISSION,
    StoreCause.MISSING_BUCKET,
    StoreCause.BILLING,
    StoreCause.REQUESTER_PAYS,
)
"""Causes of a store's refusal that a person must remove, as a wrong setting."""


@asynccontextmanager
async def open_archive() -> AsyncIterator[tuple[Archive, Settings]]:
    """The archive that the environment describes, and the settings."""
    from worker import settings
    from worker.archive import Archive

    loaded = settings.load()
    store = configured_store(loaded)
    try:
        yield Archive(store, loaded.secrets), loaded
    finally:
        await store.close()


def configured_store(loaded: Settings) -> Store:
    """The store that STORE_URL names.

    Raises:
        SettingsError: it is not set, or names a directory that does not exist: what is not there can't be told from
            what is in a directory of another name.
    """
    from worker.stores import missing_directory

    loaded.require_store()
    if directory := missing_directory(loaded.store_url):
        raise SettingsError(
            f"STORE_URL: there is no directory {directory}: it is mistyped, its volume is not mounted, or no worker has"
            " started there yet"
        )
    return loaded.store.open()


def run_with_archive(work: Callable[[Archive, Settings], Awaitable[T]]) -> T:
    """Do some work with the archive.

    Raises:
        SettingsError: STORE_URL is missing or wrong, or names a store that this account may not use.
        WorkerError: all other expected failures, with one sentence.
    """
    from worker.runtime import logs

    logs.configure("warning", "console")

    async def working() -> T:
        async with open_archive() as (archive, loaded):
            return await work(archive, loaded)

    try:
        with retries_told():
            return asyncio.run(working())
    except StoreError as error:
        if error.cause in SURROUNDINGS:
            raise SettingsError(f"STORE_URL: {error}") from error
        raise


@contextmanager
def retries_told() -> Iterator[None]:
    """Say in one sentence, in place of the library's own message, that a request to the store is retried."""
    from stamina import instrumentation

    def tell(details: RetryDetails) -> None:
        say(f"trying again in {details.wait_for:.1f} s: {details.caused_by}", err=True)

    instrumentation.set_on_retry_hooks([tell])
    try:
        yield
    finally:
        instrumentation.set_on_retry_hooks(None)
