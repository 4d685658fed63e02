"""Carries an entry of a stray stream to a partition on another node of a cluster, where no script reaches both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from redis.asyncio.client import Pipeline

from worker.model.causes import MoveOutcome
from worker.model.ids import EntryId
from worker.stream.client import Client
from worker.stream.keys import STREAM_KEY


@dataclass(frozen=True, slots=True)
class Move:
    """An entry of a stray stream, and the keys of the partition that it belongs to: its stream, its deletions."""

    stray: str
    entry: EntryId
    stream: str
    deleted: str


async def carry(client: Client, move: Move, *, dry_run: bool) -> bytes:
    """Do what stray_move.lua does, step by step; its outcomes are the same.

    The copy comes before the removal. If the command dies in between and is repeated, the worker recognises the second
    copy by the identity of the chunk, as it does when a push is repeated.

    Raises:
        StreamError: Redis does not answer or refuses; then the entry is still there.
    """
    if await _is_owned(client, move.stray):
        return MoveOutcome.OWNED.encode()
    found = await _raw(client, move.stray, "XRANGE", move.stray, move.entry, move.entry)
    if not found:
        return MoveOutcome.GONE.encode()
    flat = found[0][1]
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    uid, conversation = fields[b"uid"], fields[b"conversation_id"]
    names = [uid + b"/", uid + b"/" + conversation]
    if any(await client.command(lambda pipe: pipe.hmget(move.deleted, *names), move.deleted)):
        return MoveOutcome.DELETED.encode()
    if not dry_run:
        await _raw(client, move.stream, "XADD", move.stream, "*", *flat)
        await client.command(lambda pipe: pipe.xdel(move.stray, move.entry), move.stray)
    return MoveOutcome.MOVED.encode()


async def _is_owned(client: Client, stray: str) -> bool:
    """Whether a worker owns the stream, or a batch of it is sealed; without braces it is not that of a partition."""
    if STREAM_KEY.fullmatch(stray) is None:
        return False
    return bool(await client.command(lambda pipe: pipe.exists(f"{stray}:lease", f"{stray}:ready"), stray))


async def _raw(client: Client, key: str, *words: str | bytes) -> Any:
    """One command whose reply the library does not turn into a dict, which would hide repeated fields."""

    def queue(pipe: Pipeline) -> None:
        pipe.response_callbacks = {}
        pipe.execute_command(*words)

    return await client.command(queue, key)
