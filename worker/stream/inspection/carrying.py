"""Carries an entry of a stray stream to a partition on another node of a cluster, where no script reaches both."""

from __future__ import annotations

from typing import Any

from redis.asyncio.client import Pipeline

from worker.model.causes import MoveOutcome
from worker.model.ids import EntryId
from worker.stream.client import Client
from worker.stream.keys import STREAM_KEY, Keys


async def carry(client: Client, stray: str, entry: EntryId, keys: Keys, target: int, *, dry_run: bool) -> bytes:
    """Do what stray_move.lua does, step by step; its outcomes are the same.

    The copy comes before the removal. If the command dies in between and is repeated, the worker recognises the second
    copy by the identity of the chunk, as it does when a push is repeated.

    Raises:
        StreamError: Redis does not answer or refuses; then the entry is still there.
    """
    if await _is_owned(client, stray):
        return MoveOutcome.OWNED.encode()
    found = await _raw(client, stray, "XRANGE", stray, entry, entry)
    if not found:
        return MoveOutcome.GONE.encode()
    flat = found[0][1]
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    uid, conversation = fields[b"uid"], fields[b"conversation_id"]
    names = [uid + b"/", uid + b"/" + conversation]
    deleted = keys.deleted(target)
    if any(await client.command(lambda pipe: pipe.hmget(deleted, *names), deleted)):
        return MoveOutcome.DELETED.encode()
    if not dry_run:
        stream = keys.stream(target)
        await _raw(client, stream, "XADD", stream, "*", *flat)
        await client.command(lambda pipe: pipe.xdel(stray, entry), stray)
    return MoveOutcome.MOVED.encode()


async def _is_owned(client: Client, stray: str) -> bool:
    """Whether a worker owns the stream, or a batch of it is sealed; a name without braces is no partition's."""
    if STREAM_KEY.fullmatch(stray) is None:
        return False
    return bool(await client.command(lambda pipe: pipe.exists(f"{stray}:lease", f"{stray}:ready"), stray))


async def _raw(client: Client, key: str, *words: str | bytes) -> Any:
    """One command whose reply the library does not turn into a dict, which would hide repeated fields."""

    def queue(pipe: Pipeline) -> None:
        pipe.response_callbacks = {}
        pipe.execute_command(*words)

    return await client.command(queue, key)
