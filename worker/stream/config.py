"""Settings that all programs on one prefix must share: the first program records them in Redis, the others compare."""

from __future__ import annotations

import re
from hashlib import sha256
from typing import TYPE_CHECKING

from codec.errors import escaped
from worker.errors import SettingsError, StreamError
from worker.model.causes import StreamCause
from worker.model.layouts import Layouts
from worker.stream.keys import CONTRACT_VERSION, DEFAULT_PARTITIONS, MAX_PARTITIONS
from worker.stream.scripting import Call, texts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.stream.client import Client
    from worker.stream.keys import Keys

FIELDS = ["partitions", "contract", "layouts"]
"""Of `{prefix}:config`. The last one lists the numbers of partitions that pushers may use, usually one."""

_NUMBER = re.compile(rb"[1-9][0-9]{0,8}")


async def record_or_check(client: Client, keys: Keys, partitions: int | None) -> Layouts:
    """Record PARTITIONS and the contract version, or make sure that the recorded ones are ours; returns the numbers.

    Without `partitions`, the recorded number is ours; if there is none, the default is recorded.

    This works in a full Redis too. A user that may only read the record, as a pusher's may, waits until a worker has
    written it.

    Raises:
        SettingsError: Redis records other values.
        StreamError: Redis is unreachable or refuses, or the record can't be understood.
    """
    recorded = await client.command(lambda pipe: pipe.hmget(keys.config, FIELDS), keys.config)
    number, contract, listed = recorded
    if contract is None or (number is None and listed is None):
        recorded = await _record(client, keys, partitions)
    if difference := difference_in(recorded, keys, partitions):
        raise SettingsError(difference)
    return layouts_in(recorded, keys)


async def recorded_layouts(client: Client, keys: Keys, configured: int) -> Layouts:
    """The numbers of partitions that Redis records, else the configured one, so that a viewer need not set it.

    Raises:
        StreamError: Redis is unreachable or refuses, or the record can't be understood.
    """
    recorded = await client.command(lambda pipe: pipe.hmget(keys.config, FIELDS), keys.config)
    number, _, listed = recorded
    return Layouts.single(configured) if number is None and listed is None else layouts_in(recorded, keys)


async def change_layouts(client: Client, keys: Keys, before: Layouts, after: Layouts) -> bool:
    """Record other numbers of partitions, in one step; False if the record is not `before` any more.

    Raises:
        StreamError: Redis is unreachable or refuses.
    """
    args: list[str | int] = [before.current, str(before), after.current, str(after)]
    return bool(await client.run(Call("layouts", [keys.config], args)))


async def _record(client: Client, keys: Keys, partitions: int | None) -> Sequence[bytes | None]:
    (recorded,) = await client.gather([record_settings(keys, partitions)])
    if isinstance(recorded, StreamError):
        if "NoPermission" in str(recorded):
            text = f"{keys.config} is not recorded yet, and this user of Redis may not record it: start a worker first"
            raise StreamError(text, cause=StreamCause.REFUSED) from recorded
        raise recorded
    found: Sequence[bytes | None] = recorded
    return found


async def record_or_check_store(client: Client, keys: Keys, url: str, identity: str) -> None:
    """Record which store is behind STORE_URL, or make sure that it is the recorded one.

    Raises:
        SettingsError: Redis records another one.
        StreamError: Redis is unreachable or refuses.
    """
    field = f"store:{sha256(url.encode()).hexdigest()[:8]}"
    [recorded] = texts([await client.run(Call("store", [keys.config], [field, identity]))])
    if recorded != identity:
        raise SettingsError(
            f"STORE_URL is {url}, but {keys.config} in Redis records another directory there ({recorded}, this one is"
            f" {identity or 'empty'}): the volume may not be mounted; if this directory is to be the store from now on,"
            f" run: redis-cli HDEL {keys.config} {field}"
        )


def record_settings(keys: Keys, partitions: int | None) -> Call:
    """The call that records PARTITIONS and the contract version unless they are recorded; its reply is the record."""
    return Call("config", [keys.config], [partitions or DEFAULT_PARTITIONS, CONTRACT_VERSION])


def layouts_in(recorded: Sequence[bytes | None], keys: Keys) -> Layouts:
    """The numbers of partitions in a record.

    Raises:
        StreamError: they are no numbers of partitions.
    """
    current, _, listed = recorded
    numbers = {*(listed or current or b"").split(b",")}
    if not all(_NUMBER.fullmatch(number) and 0 < int(number) <= MAX_PARTITIONS for number in numbers):
        shown = b",".join(sorted(numbers))
        text = f"Redis: {keys.config} records {escaped(shown)} as PARTITIONS, which is not a number of streams"
        raise StreamError(f"{text}; redis-cli HSET {keys.config} partitions NUMBER mends it", StreamCause.REFUSED)
    valid = frozenset(map(int, numbers))
    return Layouts(int(current) if current in numbers else min(valid), valid)


def difference_in(recorded: Sequence[bytes | None], keys: Keys, partitions: int | None) -> str:
    """One sentence on how the record differs from our settings, and what to do; empty if they agree."""
    found, contract, listed = ((value or b"").decode(errors="replace") for value in recorded)
    numbers = (listed or found).split(",")
    if partitions is not None and str(partitions) not in numbers:
        recorded_numbers = " or ".join(numbers)
        return (
            f"PARTITIONS is {partitions}, but {keys.config} in Redis records {recorded_numbers}: set"
            f" PARTITIONS={recorded_numbers}, as all pushers and workers of this STREAM_PREFIX have it, or change it"
            f" for all: audio-batch-worker partitions {partitions}"
        )
    if contract != CONTRACT_VERSION:
        return (
            f"STREAM_PREFIX {keys.prefix}: {keys.config} in Redis records contract version {contract}, this"
            f" program speaks {CONTRACT_VERSION}: run programs of one version, or choose another STREAM_PREFIX"
        )
    return ""
