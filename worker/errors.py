"""All errors that the worker raises on purpose, grouped by what the caller can do about them.

WorkerError           the root, defined in codec/errors.py, because the codec imports nothing of the worker
├── CodecError        values or bytes that don't fit; codec/errors.py shows its branch
├── WrongType         an argument of a call has a wrong type: correct the call
├── LibopusMissing    libopus can't be loaded: install it
├── ExtraMissing      an optional part of this package is not installed: install it
├── SettingsError     a person must change a setting; the process ends with exit code 2
├── AudioFileError    a person must give another file
├── BadSelection      a request selects audio in a way that makes no sense
├── Unreadable        this one blob is corrupt, under another key, or gone: take another, or continue without it
│   └── Undecryptable none of the given secrets opens it
├── ReportError       a person must give another file for a report
├── NothingStored     the store does not have this audio: a backend answers 404
├── NothingReadable   the store has this audio, but none of it can be read: a person must look at it
│   └── WrongSecrets  the given secrets don't open it: give the secret that encrypted it
├── StreamError       a request to Redis failed: recover the partition and try again
│   └── LeaseLost     another worker owns the partition now: drop it, touch nothing
├── PushRefused       the producer did not take this chunk: the pusher still has it
│   └── BufferFull    Redis does not keep up: wait, or put the chunk elsewhere
├── NotSent           the producer ends with audio that Redis has not confirmed: save it
├── SpoolRefused      the spool did not take or return a blob: the store or Redis must have it
├── SpoolDamaged      a spooled file has other contents than were written: keep it, a person must look at it
├── DemoFailed        the demo can't continue: a person must read why
└── StoreError        a request to the store failed: try again later, without limit
    ├── ObjectExists  the name is taken: compare metadata, never overwrite
    ├── ObjectMissing the store has no such object
    └── Outage        the store has refused everything for a long time: put the audio elsewhere
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from codec.errors import WorkerError as WorkerError  # noqa: PLC0414 -- mypy takes this form for an export
from worker.model.causes import SpoolCause, StoreCause, StreamCause

if TYPE_CHECKING:
    from codec.entry import Chunk, End


class ExtraMissing(WorkerError, ImportError):
    """An extra of this package is not installed; the message is the command that installs it."""


class SettingsError(WorkerError):
    """The message names the setting, what is wrong with it and what to do."""


class AudioFileError(WorkerError):
    """A file can't be read as audio or written; the message names the file and what to do."""


class BadSelection(WorkerError):
    """A timestamp is not Unix seconds, a range ends before it begins, or a conversation is given without its uid."""


class Unreadable(WorkerError):
    """A blob that can't be played; the message says why, and the caller knows which blob it is.

    `cause` is that of the store's refusal, None if the blob itself is the reason.
    """

    def __init__(self, message: str, cause: StoreCause | None = None) -> None:
        super().__init__(message)
        self.cause = cause


class Undecryptable(Unreadable):
    """A blob that none of the given secrets opens."""


class ReportError(WorkerError):
    """A report can't be read or written, or the file is not a report; the message names the file."""


class NothingStored(WorkerError):
    """The store has no blob of the requested audio."""


class NothingReadable(WorkerError):
    """The store has blobs of the requested audio, but none of them can be read; the download's report tells why."""


class WrongSecrets(NothingReadable):
    """The store has blobs of the requested audio, but the given secrets open none of them."""


class StreamError(WorkerError):
    """Redis is unreachable or refused a command; the command may or may not have taken effect."""

    def __init__(self, message: str, cause: StreamCause = StreamCause.CONNECTION) -> None:
        super().__init__(message)
        self.cause = cause


class LeaseLost(StreamError):
    """The partition's lease is no longer held with our token."""

    def __init__(self, key: str) -> None:
        super().__init__(f"{key} is held by another worker or has expired", cause=StreamCause.LEASE)
        self.key = key


class PushRefused(WorkerError):
    """The producer is closed, or has stopped for the given reason; it did not take the chunk."""


class BufferFull(PushRefused):
    """The producer's buffer had no room in time; the producer did not take the chunk."""

    def __init__(self, held: int, limit: int) -> None:
        super().__init__(f"{held} of {limit} bytes wait for Redis, the buffer has no room for this chunk")


class NotSent(WorkerError):
    """Entries, oldest first, that Redis had not confirmed when the producer closed.

    Redis may have some of them, because a reply can be lost. Pushing them again is safe: a chunk keeps its `seq`.
    """

    def __init__(self, entries: tuple[Chunk | End, ...], reason: str) -> None:
        super().__init__(f"{len(entries)} entries are not known to be in Redis: {reason}")
        self.entries = entries


class StoreError(WorkerError):
    """The store is unreachable or refused a request.

    `status` is the HTTP status if there was one. `retry_after` are the seconds that the store asked us to wait.
    """

    def __init__(
        self, message: str, *, cause: StoreCause, status: int | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.cause = cause
        self.status = status
        self.retry_after = retry_after


class ObjectExists(StoreError):
    """A create-only write found the name taken."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} exists already", cause=StoreCause.EXISTS, status=412)
        self.name = name


class ObjectMissing(StoreError):
    """A read, copy or stat found no object with that name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} does not exist", cause=StoreCause.MISSING, status=404)
        self.name = name


class Outage(StoreError):
    """The store has refused everything for SPOOL_AFTER seconds; `cause` is that of the last refusal."""

    def __init__(self, cause: StoreCause) -> None:
        super().__init__(f"the store has been refusing everything ({cause})", cause=cause)


class SpoolRefused(WorkerError):
    """The spool is full or its volume fails; nothing is lost, because the caller still has the blob."""

    def __init__(self, message: str, cause: SpoolCause) -> None:
        super().__init__(f"SPOOL_DIR: {message}")
        self.cause = cause


class SpoolDamaged(WorkerError):
    """The message says what is wrong with the file."""


class DemoFailed(WorkerError):
    """The message says what the demo misses, or which of its processes failed and where its log is."""
