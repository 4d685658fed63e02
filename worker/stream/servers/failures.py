"""Errors of Redis, of its library and of the network, as `StreamError`: one sentence and a constant cause."""

from __future__ import annotations

import re

from redis.exceptions import ClusterDownError, NoPermissionError, ReadOnlyError, ResponseError, TryAgainError

from worker.errors import StreamError
from worker.model.causes import StreamCause
from worker.stream.keys import expected_type
from worker.stream.servers.reply_limit import ReplyTooLarge

CAUSES: tuple[tuple[type[Exception], StreamCause], ...] = (
    (ReplyTooLarge, StreamCause.LARGE),
    (ReadOnlyError, StreamCause.READONLY),
    (ClusterDownError, StreamCause.CLUSTER),
    (TryAgainError, StreamCause.MOVING),  # a MovedError and an AskError are of this kind in the library
    (ResponseError, StreamCause.REFUSED),
)
"""The first match counts. All other errors mean that the connection is useless."""

USERS = (
    "a pusher needs the Redis user pusher, a worker the user worker, and all other commands the user operator, each as"
    " in deploy/helm/SECURITY.md (Users of Redis)"
)
"""What to do if Redis forbids a command."""


_REFUSED_COMMAND = re.compile(r"no permissions to run the '([^']+)' command")
_REFUSED_KEY = re.compile(r"user executing the script can't access|No permissions to access a key")


def stream_error(error: Exception) -> StreamError:
    """One sentence on the error of Redis or the network; the text is cut, because it may repeat untrusted input."""
    if isinstance(error, StreamError):
        return error
    text = f"Redis: {type(error).__name__}: {str(error)[:200]}{_missing_right(error)}"
    if isinstance(error, NoPermissionError):
        text = f"{text}; {USERS}"
    cause = next((cause for kind, cause in CAUSES if isinstance(error, kind)), StreamCause.CONNECTION)
    return StreamError(text, cause=cause)


def _missing_right(error: Exception) -> str:
    """What a person can do about a refused right; empty for other errors."""
    if found := _REFUSED_COMMAND.search(str(error)):
        right = f"+{found[1]}"
    elif isinstance(error, NoPermissionError) or _REFUSED_KEY.search(str(error)):
        right = "the key, or the pattern of the keys"
    else:
        return ""
    return f"; allow this user {right}, as in Users of Redis (SECURITY.md)"


def is_hiding(error: BaseException | None) -> bool:
    """Whether a server refuses to run a command at all, for this user or for all."""
    is_unknown = isinstance(error, ResponseError) and "unknown command" in str(error)
    return is_unknown or isinstance(error, NoPermissionError)


def is_wrong_type(reply: object) -> bool:
    """Whether a command met a key of another type."""
    return isinstance(reply, ResponseError) and "WRONGTYPE" in str(reply)


def wrong_type(key: str, found: str) -> str:
    """One sentence on a key that holds another type than the workers keep there, and what to do."""
    escape = f"redis-cli RENAME '{key}' 'wrong:{key}'"
    if found == "stream":
        escape = f"`audio-batch-worker streams move '{key}'` saves the audio in it; else {escape}"
    return f"Redis: {key} is a {found}, where a {expected_type(key)} belongs: another program wrote it; {escape}"
