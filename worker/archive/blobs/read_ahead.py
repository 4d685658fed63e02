"""How many blobs may be read ahead, and how much memory they may take."""

from __future__ import annotations

from codec.entry import BYTES_PER_SAMPLE
from worker.archive.blobs.alternatives import AudioAlternatives
from worker.archive.blobs.listing import Blob

AHEAD = 16
"""Blobs that are read at once, including decoded ones that wait for their turn."""


AHEAD_BYTES = 48 * 1024 * 1024
"""Bytes of memory that these may take together."""


OPUS_EXPANSION = 16
"""Decoded speech is about 13 times its Opus."""


def footprint(source: AudioAlternatives) -> int:
    """Approximate peak of memory to fetch a source, in bytes: stored, decrypted and decoded."""
    return max(footprint_of(blob) for blob in source.alternatives)


def footprint_of(blob: Blob) -> int:
    """The same for one blob."""
    if blob.codec == "pcm":
        return 3 * blob.info.size
    decoded = (blob.samples or 0) * BYTES_PER_SAMPLE
    return 2 * blob.info.size + 2 * (decoded or OPUS_EXPANSION * blob.info.size)
