"""The states of a batch, and what moves it on."""

from __future__ import annotations

from enum import StrEnum


class Trigger(StrEnum):
    """What closed a batch."""

    AUDIO = "audio"  # BATCH_MAX_SECONDS of audio, gaps included
    AGE = "age"  # BATCH_MAX_AGE since its first entry
    BYTES = "bytes"  # BATCH_MAX_BYTES of PCM, or MAX_ENTRIES chunks
    END = "end"  # the conversation ended
    SHUTDOWN = "shutdown"  # the worker stops
    FORMAT = "format"  # the next chunk has another sample rate or protection
    GAP = "gap"  # the next chunk's timestamp is too far off to continue
