"""Turns one blob back into audio: reads, checks, decrypts and decodes it, or gives the reason why it can't."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from codec.blob import Audio, decode, decode_content, open_content
from codec.crypto import key_id
from codec.errors import BadBlob, DecryptionFailed
from worker.archive.blobs.listing import Blob
from worker.archive.blobs.retrying import OF_ONE_OBJECT, retry
from worker.errors import ObjectMissing, StoreError, Undecryptable, Unreadable
from worker.model.causes import StoreCause
from worker.runtime.cpu import cpu_limit
from worker.stores.base import Store

T = TypeVar("T")

LARGEST_BLOB = 352 * 1024 * 1024
"""Bytes: an hour of PCM at 48 kHz, which is the most that a blob may hold, with some room for encryption."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A blob that can't be read, and why; `instead` names the alternative that gave the same audio, if one did.

    `cause` is that of the store's refusal, None if the blob itself is the reason. `undecryptable` says that none of the
    given secrets opens it; with the right one it may be sound.
    """

    name: str
    reason: str
    instead: str | None = None
    cause: StoreCause | None = None
    undecryptable: bool = False


def check_size(blob: Blob) -> None:
    """Refuse to read an object that is larger than any blob: it is read as a whole. Raises `Unreadable`."""
    if blob.info.size > LARGEST_BLOB:
        raise Unreadable(f"it has {blob.info.size:,} bytes, more than any blob: it is not read")


class Reader:
    """Reads blobs of one store; `secrets` are the encryption secrets, the current one first."""

    def __init__(self, store: Store, secrets: Sequence[str]) -> None:
        self._store = store
        self._secrets = {key_id(secret): secret for secret in secrets}
        # As many threads as cores: more threads would only compete for Python's lock.
        self._pool = ThreadPoolExecutor(cpu_limit(), thread_name_prefix="decode")

    @property
    def secrets(self) -> list[str]:
        """The encryption secrets, the current one first."""
        return list(self._secrets.values())

    async def audio(self, blob: Blob) -> Audio:
        """The blob's audio at its own rate (`Blob.sample_rate`).

        Raises:
            Unreadable: it is corrupt, truncated or gone; `Undecryptable` if none of the secrets opens it.
            StoreError: the store does not answer.
        """
        return await self.decode(blob, await self.data(blob))

    async def decode(self, blob: Blob, data: bytes) -> Audio:
        """The audio of stored bytes. Raises as `audio`."""
        secrets = self._secrets_for(blob)
        return await self._in_thread(blob, partial(decode, data, blob.path, blob.info.metadata, secrets=secrets))

    async def data(self, blob: Blob) -> bytes:
        """The stored bytes, their CRC32C checked. Raises as `audio`."""
        check_size(blob)
        if blob.info.flaw:
            raise Unreadable(blob.info.flaw)
        try:
            return await retry(lambda: self._store.read(blob.path))
        except ObjectMissing as error:
            raise Unreadable("it has been deleted meanwhile") from error
        except StoreError as error:
            if error.cause not in OF_ONE_OBJECT:
                raise
            cause = None if error.cause is StoreCause.CORRUPT else error.cause
            raise Unreadable(str(error), cause) from error

    async def content(self, blob: Blob) -> bytes:
        """The Opus container or the PCM, decrypted. Raises as `audio`."""
        data = await self.data(blob)
        open_it = partial(open_content, data, blob.path, secrets=self._secrets_for(blob))
        return await self._in_thread(blob, open_it)

    async def decoded(self, blob: Blob, content: bytes) -> Audio:
        """The audio of a content. Raises as `audio`."""
        return await self._in_thread(blob, partial(decode_content, content, blob.path, blob.info.metadata))

    async def _in_thread(self, blob: Blob, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        except BadBlob as error:
            kind = Undecryptable if self._lacks_the_secret(blob, error) else Unreadable
            raise kind(self._explained(blob, error)) from error

    def _secrets_for(self, blob: Blob) -> list[str]:
        """The secret that the blob names comes first; the others are tried too."""
        named = blob.facts.key_id
        return sorted(self._secrets.values(), key=lambda secret: self._secrets.get(named or "") != secret)

    def _lacks_the_secret(self, blob: Blob, error: BadBlob) -> bool:
        """Whether another secret may open the blob: not if it names one of ours, for then its bytes have changed."""
        return isinstance(error, DecryptionFailed) and blob.facts.key_id not in self._secrets

    def _explained(self, blob: Blob, error: BadBlob) -> str:
        reason = str(error).removeprefix(f"{blob.path}: ")
        named = blob.facts.key_id
        if isinstance(error, DecryptionFailed) and named is not None and named not in self._secrets:
            return f"{reason} (encrypted with the secret {named}, which is not among those given)"
        return reason
