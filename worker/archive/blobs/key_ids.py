"""Which secrets encrypted blobs name: a blob whose secret was not given can be listed, but not read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from codec.crypto import KEY_ID_DIGITS, key_id
from worker.archive.blobs.listing import Blob

KEY_ID = re.compile(rf"[0-9a-f]{{{KEY_ID_DIGITS}}}")


def missing_secret(blob: Blob, secrets: Iterable[str]) -> str | None:
    """The key id of the secret that a blob names, if it is none of the given ones; None too if it names none."""
    named = blob.facts.key_id
    if named is None or not KEY_ID.fullmatch(named) or named in map(key_id, secrets):
        return None
    return named


def missing_secrets(blobs: Iterable[Blob], secrets: Sequence[str]) -> Iterator[str]:
    """A sentence for each secret that blobs name and that is none of the given ones; nothing without secrets."""
    if not secrets:
        return
    blobs_of = Counter(named for blob in blobs if (named := missing_secret(blob, secrets)))
    for named, number in blobs_of.items():
        blobs_are = "1 blob is" if number == 1 else f"{number:,} blobs are"
        yield (
            f"{blobs_are} encrypted with the secret {named}, which is neither ENCRYPTION_SECRET"
            f" ({key_id(secrets[0])}) nor in ENCRYPTION_SECRETS_OLD: they can't be read with these"
        )
