"""Why Redis does not take audio, and which of its nodes: for callers, logs and decisions."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from redis import exceptions

from worker.model.causes import StreamCause
from worker.stream.servers.failures import stream_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.errors import StreamError


class Cause(StrEnum):
    """Why Redis does not take audio now."""

    FULL = "full"  # it has no memory left
    READONLY = "readonly"  # it is a replica
    LOADING = "loading"  # it starts, and reads its data
    TIMEOUT = "timeout"  # it does not answer in time
    CONNECTION = "connection"  # it can't be reached
    REFUSED = "refused"  # it refuses the user, or this command
    CLUSTER = "cluster"  # no node of the cluster serves the stream
    UNREPLICATED = "unreplicated"  # too few replicas have the audio, see `replicas=`


CAUSES: tuple[tuple[type[Exception], Cause], ...] = (
    (exceptions.OutOfMemoryError, Cause.FULL),
    (exceptions.ReadOnlyError, Cause.READONLY),
    (exceptions.BusyLoadingError, Cause.LOADING),
    (exceptions.AuthenticationError, Cause.REFUSED),
    (exceptions.TimeoutError, Cause.TIMEOUT),
    (TimeoutError, Cause.TIMEOUT),
    (exceptions.ConnectionError, Cause.CONNECTION),
    (OSError, Cause.CONNECTION),
)
"""The first match counts: in the library, "loading" and "authentication" are connection errors; in Python, a
TimeoutError is an OSError."""

BY_STREAM_CAUSE = {
    StreamCause.READONLY: Cause.READONLY,
    StreamCause.REFUSED: Cause.REFUSED,
    StreamCause.CLUSTER: Cause.CLUSTER,
    StreamCause.MOVING: Cause.CLUSTER,
}
"""Causes of errors that the library did not raise. All other errors mean that the connection is useless."""

TOO_FEW_REPLICAS = "NOREPLICAS"
"""How the refusal of a Redis with `min-replicas-to-write` begins."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """A node of Redis does not take audio now.

    `failures` counts the attempts in a row that stored nothing, `delay` is the seconds until the next one. `node` is
    the address of the node; a Redis without cluster mode is one node.
    """

    cause: Cause
    message: str
    failures: int
    delay: float
    node: str


class Failure(NamedTuple):
    """Why an attempt stored nothing, or not all."""

    cause: Cause
    message: str


class Troubles:
    """The troubles of all nodes; the caller's function gets each, and None when the last one is over."""

    def __init__(self, on_trouble: Callable[[Trouble | None], object]) -> None:
        self._on_trouble = on_trouble
        self._of: dict[str, Trouble] = {}

    @property
    def all(self) -> tuple[Trouble, ...]:
        """One trouble for each node that has any; that which has lasted longest comes first."""
        return tuple(self._of.values())

    def of(self, node: str) -> Trouble | None:
        """The trouble of a node."""
        return self._of.get(node)

    def report(self, trouble: Trouble) -> None:
        """Note that a node has failed."""
        self._of[trouble.node] = trouble
        self._call_back(trouble)

    def over(self, node: str) -> Trouble | None:
        """Note that a node takes audio or needs none; returns its former trouble."""
        trouble = self._of.pop(node, None)
        if trouble is not None and not self._of:
            self._call_back(None)
        return trouble

    def _call_back(self, trouble: Trouble | None) -> None:
        # Called by the loop: it reports an error in the caller's function, and sending goes on.
        asyncio.get_running_loop().call_soon(self._on_trouble, trouble)


def failure_of(error: Exception) -> Failure:
    """What an error of Redis, or a refused command, means for audio."""
    if (translated := stream_error(error)) is not error:
        translated.__cause__ = error
    return Failure(cause_of(translated), str(translated))


def cause_of(error: StreamError) -> Cause:
    """The cause of an error of Redis, for logs and decisions."""
    if str(error.__cause__).startswith(TOO_FEW_REPLICAS):
        return Cause.UNREPLICATED
    for kind, cause in CAUSES:
        if isinstance(error.__cause__, kind):
            return cause
    return BY_STREAM_CAUSE.get(error.cause, Cause.CONNECTION)
