"""Settings that all programs on one prefix must share: the first program records them in Redis, the others compare."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from worker.errors import SettingsError, StreamError
from worker.model.causes import StreamCause
from worker.stream.keys import CONTRACT_VERSION
from worker.stream.scripting import Call, texts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.stream.client import Client
    from worker.stream.keys import Keys


async def record_or_check(client: Client, keys: Keys, partitions: int) -> None:
    """Record PARTITIONS and the contract version, or make sure that the recorded ones are ours.

    This works in a full Redis too. A user that may only read the record, as a pusher's may, waits until a worker has
    written it.

    Raises:
        SettingsError: Redis records other values.
        StreamError: Redis is unreachable or refuses.
    """
    fields = ["partitions", "contract"]
    recorded = await client.command(lambda pipe: pipe.hmget(keys.config, fields), keys.config)
    if None in recorded:
        recorded = await _record(client, keys, partitions)
    if difference := difference_in(recorded, keys, partitions):
        raise SettingsError(difference)


async def _record(client: Client, keys: Keys, partitions: int) -> Sequence[bytes]:
    (recorded,) = await client.gather([record_settings(keys, partitions)])
    if isinstance(recorded, StreamError):
        if "NoPermission" in str(recorded):
            text = f"{keys.config} is not recorded yet, and this user of Redis may not record it: start a worker first"
            raise StreamError(text, cause=StreamCause.REFUSED) from recorded
        raise recorded
    found: Sequence[bytes] = recorded
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


def record_settings(keys: Keys, partitions: int) -> Call:
    """The call that records PARTITIONS and the contract version unless they are recorded; its reply is the record."""
    return Call("config", [keys.config], [partitions, CONTRACT_VERSION])


def difference_in(recorded: Sequence[bytes], keys: Keys, partitions: int) -> str:
    """One sentence on how the record differs from our settings, and what to do; empty if they agree."""
    recorded_partitions, recorded_contract = (value.decode(errors="replace") for value in recorded)
    if recorded_partitions != str(partitions):
        return (
            f"PARTITIONS is {partitions}, but {keys.config} in Redis records {recorded_partitions}: set"
            f" PARTITIONS={recorded_partitions}, as all pushers and workers of this STREAM_PREFIX have it"
        )
    if recorded_contract != CONTRACT_VERSION:
        return (
            f"STREAM_PREFIX {keys.prefix}: {keys.config} in Redis records contract version {recorded_contract}, this"
            f" program speaks {CONTRACT_VERSION}: run programs of one version, or choose another STREAM_PREFIX"
        )
    return ""
