"""The root of all errors, and everything that the codec raises on purpose.

WorkerError                  all errors that audio-batch-worker raises on purpose; `worker/errors.py` has the others
├── CodecError (a ValueError)
│   ├── BadEntry             a stream entry is neither a chunk nor an end
│   ├── BadName              a name is not a blob's name, or an id or time can't be part of one
│   ├── BadSecret            an encryption secret is too short
│   │   └── NotASecret       (a TypeError) what is given as a secret, or as the list of them, is something else
│   ├── EncodingFailed       libopus refused settings or audio
│   └── BadBlob              a blob's bytes are corrupt, truncated or not what its name says
│       └── DecryptionFailed its encryption does not open: wrong key, or changed bytes
├── WrongType                (a TypeError) an argument of a call has a type that it can't have
└── LibopusMissing           (an ImportError) no libopus can be loaded
"""

from __future__ import annotations

SHOWN_CHARACTERS = 40


def escaped(value: object) -> str:
    """Text of an untrusted value for a message: escaped, plain ASCII, at most 40 characters."""
    clipped = value[:SHOWN_CHARACTERS] if isinstance(value, str | bytes) else value
    text = ascii(clipped)
    if len(text) <= SHOWN_CHARACTERS and clipped == value:
        return text
    return text[: SHOWN_CHARACTERS - 3] + "..."


class WorkerError(Exception):
    """Base of all errors that audio-batch-worker raises on purpose: a program that catches it catches them all."""


class CodecError(WorkerError, ValueError):
    """Base of all errors about bytes, names and settings that don't fit."""


class BadEntry(CodecError):
    """A stream entry that can't be audio or an end; `reason` is one short sentence of bounded size."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class BadName(CodecError):
    """An object name that no blob can have."""


class BadSecret(CodecError):
    """An encryption secret that no key can be derived from."""


class NotASecret(BadSecret, TypeError):
    """A secret that is not text, or a single text in place of a list of secrets."""


class EncodingFailed(CodecError):
    """libopus refused a setting or a frame, PCM ends inside a sample, or the encoder is closed."""


class BadBlob(CodecError):
    """A blob whose bytes are corrupt, truncated, or not what its name and metadata say."""


class DecryptionFailed(BadBlob):
    """A blob that none of the given keys opens completely; none of its content was returned."""


class WrongType(WorkerError, TypeError):
    """An argument of a call has a type that it can't have; the message names the argument."""


class LibopusMissing(WorkerError, ImportError):
    """Neither the bundled libopus nor the system's can be loaded."""
