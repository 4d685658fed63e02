"""Stores for blobs: `open_store` picks the implementation by URL. Nothing here knows what a blob contains."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote

from worker.errors import SettingsError
from worker.stores.base import Store

LONGEST_PREFIX = 440
"""Bytes of a prefix that leave room for any blob's name: up to 570 of the 1,024 that Cloud Storage allows."""

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
    if url.startswith("gs://"):
        return _gcs_store(url, emulator_host or os.environ.get("STORAGE_EMULATOR_HOST"))
    if url.startswith("file:///"):
        return _file_store(url)
    raise SettingsError(f"STORE_URL is {url!r}: give gs://bucket[/prefix] or file:///directory")


# Imported when chosen: then a program that stores files loads no HTTP client, and the imports form no circle.
def _gcs_store(url: str, emulator_host: str | None) -> Store:
    from worker.stores.gcs import GcsStore  # noqa: PLC0415 -- see above

    bucket, _, prefix = url.removeprefix("gs://").partition("/")
    if not BUCKET.fullmatch(bucket):
        raise SettingsError(f"STORE_URL is {url!r}: {bucket!r} is no bucket name; give gs://bucket[/prefix]")
    if (size := len(prefix.encode())) > LONGEST_PREFIX:
        raise SettingsError(
            f"STORE_URL has a prefix of {size} bytes; no more than {LONGEST_PREFIX} leave room for names"
        )
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
