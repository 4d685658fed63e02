"""The states of a batch, and what moves it on. Code, metrics, `status`, the spool and the documents use these words.

             read            seal            encode               store
    unread ───────▶ open ───────▶ sealed ───────▶ encoding ───────▶ uploading ───────▶ done
       ▲             │              ▲  │              │ │              │   ▲
       └── a rewind ─┘              │  │              │ │      outage  ▼   │ the store is back
                                    └──┴── a rewind ──┘ └───────────▶ spooled
                                                     SPOOL_MODE=always

    | state     | where it is durable                        | what moves it on                                    |
    |-----------|--------------------------------------------|-----------------------------------------------------|
    | unread    | entries in the stream                      | the owner of the partition reads them               |
    | open      | its entries, pending in the consumer group | a `Trigger` closes it, then Redis takes its seal    |
    | sealed    | its seal and its entries                   | its audio is complete, and the delivery begins      |
    | encoding  | its seal and its entries                   | the blob is finished and encrypted                  |
    | uploading | its seal and its entries; if spooled, its  | the store confirms the object, and the done step    |
    |           | file                                       | (`DoneOutcome`) removes seal and entries            |
    | spooled   | its file in SPOOL_DIR, synced              | any worker on that volume uploads the file          |
    | done      | the object, the event                      | nothing                                             |

A closed batch that waits for its seal is open: its composition is not durable yet. A rewind (`RewindCause`) forgets
unsealed batches, so that their entries are unread again. A sealed batch whose delivery fails stays sealed, and its
entries are read again. The only other way out is into the dead letters (`DeadLetterKind`).
"""

from __future__ import annotations

from enum import StrEnum


class BatchState(StrEnum):
    """How far audio has come on its way from the stream to the store."""

    UNREAD = "unread"  # no worker has read it
    OPEN = "open"  # its batch grows, or is closed and not sealed yet
    SEALED = "sealed"  # its batch's composition and object name are fixed
    ENCODING = "encoding"  # the encoder finishes the blob, and the blob is encrypted
    UPLOADING = "uploading"  # the blob goes into the store or the spool, and Redis is told
    SPOOLED = "spooled"  # the done step has run in Redis, and the blob waits for the store
    DONE = "done"  # it is stored


HELD_STATES = (BatchState.OPEN, BatchState.SEALED, BatchState.ENCODING, BatchState.UPLOADING)
"""States of batches that one worker holds. Redis counts unread entries; all workers on a volume share its spool."""


class RedisPersistence(StrEnum):
    """Whether Redis' append-only file keeps audio through a crash of Redis."""

    ON = "on"
    UNKNOWN = "unknown"  # Redis does not tell
    OFF = "off"
    FAILING = "failing"  # it can't be written, and Redis refuses writes


class Trigger(StrEnum):
    """What closed a batch."""

    AUDIO = "audio"  # BATCH_MAX_SECONDS of audio, gaps included
    AGE = "age"  # BATCH_MAX_AGE since its first entry
    BYTES = "bytes"  # BATCH_MAX_BYTES of PCM, or MAX_ENTRIES chunks
    END = "end"  # the conversation ended
    SHUTDOWN = "shutdown"  # the worker stops
    FORMAT = "format"  # the next chunk has another sample rate or protection
    GAP = "gap"  # the next chunk's timestamp is too far off to continue
