"""Stores for blobs: `open_store` picks the implementation by URL. Nothing here knows what a blob contains."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote

from codec.errors import escaped
from worker.errors import SettingsError
from worker.stores.base import Store

LONGEST_PREFIX = 440
"""Bytes of a prefix that leave room for any blob's name: up to 570 of the 1,024 that Cloud Storage allows."""

EMULATOR = re.compile(r"(https?://)?(\[[0-9A-Fa-f:.]+\]|[^\s/?#:@]+)(:[0-9]{1,5})?(/\S*)?")
BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")  # https://cloud.google.com/storage/docs/buckets#naming


def open_store(url: str, *, emulator_host: str | None = None) -> Store:
    """The store that STORE_URL names; nothing is opened or created before its first use.

    Args:
        url: `gs://bucket[/prefix]` or `file:///directory`, the directory percent-encoded as in any URL.
        emulator_host: `http://host:port` of a Cloud Storage emulator in place of the real one; by default what
            STORAGE_EMULATOR_HOST says, as in every client of Cloud Storage.

    Raises:
        SettingsError: the URL has neither form, or its bucket or prefix is invalid.
    """
    checked_store_url(url)
    if url.startswith("file:///"):
        return _file_store(url)
    host = emulator_host or os.environ.get("STORAGE_EMULATOR_HOST")
    return _gcs_store(url, checked_emulator(host) if host else None)


def checked_store_url(url: str) -> str:
    """The URL itself if a store can be made of it.

    Raises:
        SettingsError: it has neither form, or its bucket or prefix is invalid.
    """
    if not isinstance(url, str):
        raise SettingsError(f"STORE_URL is {type(url).__name__}, not text: give gs://bucket[/prefix]")
    if url.startswith("file:///"):
        return url
    if not url.startswith("gs://"):
        raise SettingsError(f"STORE_URL must be gs://bucket[/prefix] or file:///directory, not {escaped(url)}")
    bucket, _, prefix = url.removeprefix("gs://").partition("/")
    if not BUCKET.fullmatch(bucket):
        raise SettingsError(f"STORE_URL is {url!r}: {bucket!r} is not a bucket name; give gs://bucket[/prefix]")
    if (size := len(prefix.encode())) > LONGEST_PREFIX:
        raise SettingsError(
            f"STORE_URL has a prefix of {size} bytes; no more than {LONGEST_PREFIX} leave room for names"
        )
    return url


def checked_emulator(host: str) -> str:
    """The address of an emulator itself if requests can be sent there.

    Raises:
        SettingsError: it is not `http://host:port`.
    """
    if not isinstance(host, str) or not EMULATOR.fullmatch(host):
        raise SettingsError("STORAGE_EMULATOR_HOST must be http://host:port")
    return host


# Imported when chosen: then a program that stores files loads no HTTP client, and the imports form no circle.
def _gcs_store(url: str, emulator_host: str | None) -> Store:
    from worker.stores.gcs import GcsStore  # noqa: PLC0415 -- see above

    bucket, _, prefix = url.removeprefix("gs://").partition("/")
    return GcsStore(bucket, prefix, emulator_host=emulator_host)


def _file_store(url: str) -> Store:
    from worker.stores.files import FileStore  # noqa: PLC0415 -- see above

    return FileStore(_directory(url))


def missing_directory(url: str) -> Path | None:
    """The directory of a `file:///` URL if it does not exist: then nothing was ever stored, or the URL is mistyped."""
    directory = _directory(url) if url.startswith("file:///") else None
    return directory if directory is not None and not directory.is_dir() else None


def _directory(url: str) -> Path:
    return Path(unquote(url.removeprefix("file://")))
