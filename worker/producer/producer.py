"""The producer that a WebSocket server calls: `push` and `end`; all other work happens in the background."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from types import MappingProxyType
from typing import TYPE_CHECKING, Self

import structlog
from redis.backoff import AbstractBackoff, EqualJitterBackoff

from codec.arguments import FUNCTION, NOTHING, check_types
from codec.entry import (
    DEFAULT_PROTECTION,
    DEFAULT_SAMPLE_RATE,
    MAX_SEQ,
    MAX_SESSION_BYTES,
    Chunk,
    End,
    Extensions,
    Protection,
    check_id,
    partition_of,
)
from codec.errors import BadEntry, escaped
from worker.errors import BufferFull, NotSent, SettingsError, StreamError
from worker.producer.buffer import Buffer
from worker.producer.node_sender import SendRules
from worker.producer.numbering import MAX_BASE_BYTES, Numbering
from worker.producer.sender import Sender
from worker.runtime.tasks import end
from worker.stream.client import Client
from worker.stream.keys import DEFAULT_PARTITIONS, MAX_PARTITIONS, PREFIX, Keys
from worker.stream.servers.connecting import connect

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.backoff import AbstractBackoff

    from worker.producer.lanes import Entry
    from worker.producer.trouble import Trouble

MIB = 1024 * 1024
FIRST_DELAY = 0.05
MAX_DELAY = 5.0
REPLICATION_SECONDS = 0.5
NO_EXTENSIONS: Extensions = MappingProxyType({})

log: structlog.stdlib.BoundLogger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of what a producer holds and how long it waits.

    `buffer_bytes` holds 33 minutes of one session at 16 kHz, or 10 seconds of 200. In a Redis Cluster, audio for one
    node may fill as much as it leaves free: half of the buffer if one node takes nothing, two thirds if two do.
    `close_within` is the seconds that closing waits for Redis (None: without limit); they must be less than the pod's
    grace period. `reply_timeout` is the seconds after which a silent connection counts as lost.

    Raises:
        WrongType: a value is not a number.
    """

    buffer_bytes: int = 64 * MIB
    close_within: float | None = 20.0
    reply_timeout: float = 5.0

    def __post_init__(self) -> None:
        check_types(int, buffer_bytes=self.buffer_bytes)
        check_types(Real, NOTHING, close_within=self.close_within)
        check_types(Real, reply_timeout=self.reply_timeout)


@dataclass(frozen=True, slots=True)
class Stats:
    """The state of a producer at one moment: what waits (entries, bytes, seconds), and what happened since its start.

    `buffered_bytes` counts what an entry costs on top of its PCM, `sent_bytes` is PCM alone. `waiting` pushes wait for
    room; `retries` are failed round trips, `refusals` the entries a full Redis refused, and `buffer_full` the pushes
    that got `BufferFull`. `trouble` is set while Redis does not take audio, or a node of it: `troubles` has one for
    each of `nodes` that does not, and `trouble` is that which has lasted longest.

    `lost_entries` are those that Redis confirmed and then lost, as in a failover to a replica that was behind. They are
    at least so many. What a worker had stored before is not lost audio.
    """

    buffered_entries: int
    buffered_bytes: int
    oldest_age: float
    waiting: int
    sent_entries: int
    sent_bytes: int
    retries: int
    refusals: int
    buffer_full: int
    conversations: int
    trouble: Trouble | None
    troubles: tuple[Trouble, ...]
    nodes: int
    lost_entries: int


class Producer:
    """Pushes chunks into the streams, in order per conversation; an asynchronous context manager.

    A push only appends to a bounded buffer, which a background task empties into Redis. It retries without limit, with
    back-off, after lost connections, and when Redis is full (`OOM command not allowed`), a replica (READONLY) or still
    loading. `on_trouble` is called with every failed attempt, and with None once Redis takes all audio again. When the
    buffer is full, a push waits, or raises `BufferFull` if told to. Audio is never dropped silently.

    In a Redis Cluster, each node is sent to on its own: one that is away delays only the conversations whose partitions
    it has, and these leave room in the buffer for the others.

    `replicas` is how many replicas must have a chunk before it counts as sent; a failover to one of these then loses
    nothing. While a node has fewer replicas, or they are slow, its pushes wait (`Cause.UNREPLICATED`) and fill the
    buffer. By default Redis alone confirms, and what its replica had not got is lost in a failover: `lost_entries`.

    Every chunk gets the next `seq` of its conversation and the producer's session, so that a retry after a lost reply
    is recognised as a duplicate. A session is one life of a producer and random: a restarted process counts from 0
    again in a session of its own, and `audit` proves both complete. `session` (1 to 55 bytes) gives one instead, for a
    process that continues its predecessor's numbers. This process must `resume` every conversation of its predecessor,
    or make sure in another way that it gives no number twice.

    Raises:
        SettingsError: on entering, if Redis records another number of partitions or contract version; at once, if an
            argument is wrong. An unreachable Redis raises nothing: pushes are buffered.
        WrongType: `limits`, `on_trouble` or `backoff` is something else.
    """

    def __init__(  # noqa: PLR0913 -- each argument is a choice of the pusher
        self,
        redis_url: str,
        *,
        partitions: int = DEFAULT_PARTITIONS,
        prefix: str = "pcm",
        limits: Limits = Limits(),
        on_trouble: Callable[[Trouble | None], object] = lambda _: None,
        backoff: AbstractBackoff | None = None,
        session: bytes | str | None = None,
        replicas: int = 0,
    ) -> None:
        check_types(Limits, limits=limits)
        check_types(FUNCTION, on_trouble=on_trouble)
        check_types(AbstractBackoff, NOTHING, backoff=backoff)
        _check_streams(partitions, prefix)
        _check_replicas(replicas)
        keys = Keys(prefix)
        self._partitions = partitions
        self._close_within = limits.close_within
        self._numbering = Numbering(_checked_session(session), time.monotonic)
        self._client = client = Client(connect(redis_url, timeout=limits.reply_timeout))
        self._buffer = Buffer(limits.buffer_bytes, time.monotonic, lambda n: client.node_of(keys.stream(n)))
        rules = SendRules(
            replicas,
            round(1000 * min(REPLICATION_SECONDS, limits.reply_timeout / 2)),
            backoff or EqualJitterBackoff(cap=MAX_DELAY, base=FIRST_DELAY),
            on_trouble,
        )
        self._sender = Sender(client, keys, partitions, self._buffer, rules)
        self._sending: asyncio.Task[None] | None = None
        self._buffer_full = 0
        self._failure: BaseException | None = None

    async def __aenter__(self) -> Self:
        try:
            await self._sender.check()
        except StreamError as error:
            log.warning("producer.started_without_redis", error=str(error))
        except BaseException:
            await self._client.close()
            raise
        self._sending = asyncio.create_task(self._sender.run(), name="producer-sender")
        self._sending.add_done_callback(self._on_sender_end)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def check(self) -> None:
        """Make sure that Redis answers, for a readiness probe. Raises `StreamError`, `SettingsError`."""
        await self._sender.check()

    async def push(  # noqa: PLR0913 -- each argument is a field of the entry
        self,
        uid: str,
        conversation_id: str,
        timestamp: float,
        pcm: bytes | bytearray | memoryview,
        *,
        sample_rate: int = DEFAULT_SAMPLE_RATE,
        protection: Protection = DEFAULT_PROTECTION,
        extensions: Extensions = NO_EXTENSIONS,
        within: float | None = None,
    ) -> None:
        """Take s16le mono PCM whose first sample is from `timestamp` (Unix seconds).

        Returns at once unless the buffer is full; then it waits `within` seconds for room (0: not at all, None: as
        long as it takes). A cancelled push may have been taken.

        `extensions` are further fields of the entry: `traceparent` and `tracestate`, which come back in the done event,
        and names that begin with `x-`.

        Raises:
            BadEntry: a worker would refuse the chunk; half a sample at the end belongs to the next chunk.
            PushRefused: the chunk was not taken, because the buffer is full (`BufferFull`) or the producer closed.
            WrongType: `within` is neither a number nor None.
        """
        chunk = Chunk(uid, conversation_id, timestamp, _raw(pcm), sample_rate, protection, extensions=extensions)
        await self.put(chunk, within=within)

    async def end(
        self,
        uid: str,
        conversation_id: str,
        *,
        extensions: Extensions = NO_EXTENSIONS,
        within: float | None = None,
    ) -> None:
        """Say that no more audio of the conversation is coming soon: its blob need not wait. Raises as `push`.

        The entry tells how many chunks there were, so that a lost tail shows.
        """
        await self.put(End(uid, conversation_id, extensions=extensions), within=within)

    async def put(self, entry: Entry, *, within: float | None = None) -> None:
        """Take an entry as it is, for example one of `NotSent`; one without `seq` and `session` gets these.

        Raises as `push`.
        """
        check_types(Real, NOTHING, within=within)
        if not isinstance(entry, Chunk | End):
            raise BadEntry(f"{type(entry).__name__} is neither a Chunk nor an End")
        partition = partition_of(entry.conversation_id, self._partitions)
        size = sum(len(name) + len(value) for name, value in entry.extensions.items())
        size += len(entry.pcm) if isinstance(entry, Chunk) else 0
        try:
            await self._buffer.admit(partition, size, lambda: self._numbered(entry), within)
        except BufferFull:
            self._buffer_full += 1
            raise

    def next_seq(self, conversation_id: str) -> int:
        """The `seq` that the conversation's next chunk gets.

        An hour after its last chunk it starts at 0 again, in a new session. Raises `BadEntry` for an impossible id.
        """
        check_id(conversation_id, "conversation_id")
        return self._numbering.following(conversation_id).seq

    def session_of(self, conversation_id: str) -> bytes:
        """The session of the conversation's next chunk: the producer's, with a suffix if others were forgotten.

        Raises `BadEntry` for an impossible id.
        """
        check_id(conversation_id, "conversation_id")
        return self._numbering.following(conversation_id).session

    def resume(self, conversation_id: str, seq: int, session: bytes | str | None = None) -> None:
        """Continue to count from `seq`, the `next_seq` of an earlier process, unless the count is further already.

        This makes sense only in the session of that process: give its `session_of` here, or its `session` to this
        producer. Without these saved, do not resume: the new session is complete by itself.

        Raises:
            BadEntry: a chunk can't have this `seq` or conversation id.
            SettingsError: a chunk can't have this session.
        """
        check_id(conversation_id, "conversation_id")
        if not isinstance(seq, int) or isinstance(seq, bool) or not 0 <= seq <= MAX_SEQ:
            raise BadEntry(f"seq {escaped(seq)} is not a counter from 0 to {MAX_SEQ}")
        known = self.session_of(conversation_id) if session is None else _checked_session(session, MAX_SESSION_BYTES)
        self._numbering.resume(conversation_id, known, seq)

    def stats(self) -> Stats:
        """What waits and what happened."""
        counts, troubles = self._sender.counts, self._sender.troubles
        return Stats(
            buffered_entries=self._buffer.entries,
            buffered_bytes=self._buffer.bytes,
            oldest_age=self._buffer.oldest_age(),
            waiting=self._buffer.waiting,
            sent_entries=counts.sent_entries,
            sent_bytes=counts.sent_bytes,
            retries=counts.retries,
            refusals=counts.refusals,
            buffer_full=self._buffer_full,
            conversations=len(self._numbering),
            trouble=troubles[0] if troubles else None,
            troubles=troubles,
            nodes=len(self._client.nodes),
            lost_entries=self._sender.lost_entries,
        )

    async def flush(self, *, within: float | None = None) -> tuple[Entry, ...]:
        """Wait until all entries taken before are in Redis, at most `within` seconds; return all that are not then.

        The returned entries stay in the buffer and are still sent. Raises `WrongType`.
        """
        check_types(Real, NOTHING, within=within)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._buffer.drained()
        return self._buffer.unsent()

    async def close(self) -> None:
        """Take no more pushes, wait at most `close_within` seconds until all is in Redis, and disconnect.

        Raises:
            NotSent: it has the entries that Redis has not confirmed by then, for the caller to save.
        """
        self._buffer.close("the producer is closed")
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._close_within):
                    await self._buffer.empty()
        finally:
            await self._stop()
        unsent = self._buffer.take_all()
        if unsent:
            raise NotSent(unsent, self._reason())

    async def _stop(self) -> None:
        if self._sending is not None:
            await end([self._sending])
        self._buffer.abandon("the producer is closed")
        await self._client.close()

    def _reason(self) -> str:
        if self._failure is not None:
            return str(self._failure)
        troubles = self._sender.troubles
        return troubles[0].message if troubles else "there was not enough time"

    def _numbered(self, entry: Entry) -> Entry:
        conversation_id = entry.conversation_id
        if (entry.seq, entry.session) == (None, None):
            end = isinstance(entry, End)
            number = self._numbering.pushed(conversation_id) if end else self._numbering.take(conversation_id)
            return entry if number is None else dataclasses.replace(entry, seq=number.seq, session=number.session)
        if isinstance(entry, Chunk) and entry.seq is not None and entry.session is not None:
            self._numbering.skip(conversation_id, entry.session, entry.seq)
        return entry

    def _on_sender_end(self, sending: asyncio.Task[None]) -> None:
        self._failure = None if sending.cancelled() else sending.exception()
        if self._failure is not None:
            log.error("producer.stopped", error=str(self._failure), exc_info=self._failure)
            self._buffer.abandon(f"the producer has stopped: {self._failure}")


def _raw(pcm: bytes | bytearray | memoryview) -> bytes:
    try:
        return bytes(memoryview(pcm))  # bytes(5) would be five zero bytes, which are audio
    except TypeError:
        raise BadEntry(f"pcm is {type(pcm).__name__}, not bytes") from None


def _check_streams(partitions: int, prefix: str) -> None:
    if not isinstance(partitions, int) or isinstance(partitions, bool) or not 1 <= partitions <= MAX_PARTITIONS:
        raise SettingsError(f"PARTITIONS is {escaped(partitions)}; it must be from 1 to {MAX_PARTITIONS}")
    if not isinstance(prefix, str) or not PREFIX.fullmatch(prefix):
        raise SettingsError(f"STREAM_PREFIX is {escaped(prefix)}; give 1 to 64 letters, digits and _ . : -")


def _check_replicas(replicas: int) -> None:
    if not isinstance(replicas, int) or isinstance(replicas, bool) or replicas < 0:
        raise SettingsError(f"replicas is {escaped(replicas)}; give 0, or how many must have each chunk")


def _checked_session(session: bytes | str | None, longest: int = MAX_BASE_BYTES) -> bytes:
    if session is None:
        return secrets.token_hex(8).encode()
    raw = session.encode(errors="replace") if isinstance(session, str) else session
    if not isinstance(raw, bytes):
        raise SettingsError(f"the session is {type(session).__name__}; give text or bytes")
    if not 1 <= len(raw) <= longest:
        raise SettingsError(f"the session has {len(raw)} bytes; give 1 to {longest}")
    return raw
