"""What holds for every step of an entry through Redis: only the owner takes it, and a full Redis lets it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from tests.support.partition_owner import PartitionOwner, Raw, pending, sealed
from tests.support.redis_server import RedisServer
from worker.errors import LeaseLost
from worker.model.ids import Conversation
from worker.stream.client import Client
from worker.stream.keys import GROUP, Keys
from worker.stream.servers.connecting import connect

FENCED: dict[str, Callable[[PartitionOwner, list[str]], Awaitable[object]]] = {
    "take over": lambda owner, _: owner.entries.take_over(owner.lease),
    "discard": lambda owner, ids: owner.entries.discard(owner.lease, ids),
    "dead_letter": lambda owner, ids: owner.entries.dead_letter(owner.lease, dict.fromkeys(ids, "bad")),
    "seal": lambda owner, ids: owner.entries.seal(owner.lease, [sealed(ids)]),
    "unseal": lambda owner, ids: owner.entries.unseal(owner.lease, sealed(ids)),
    "begin trial": lambda owner, _: owner.entries.mark_suspect(owner.lease, Conversation("u", "c")),
    "end trial": lambda owner, _: owner.entries.clear_suspect(owner.lease, Conversation("u", "c")),
}


@pytest.mark.parametrize("step", FENCED)
@pytest.mark.parametrize("successor", [True, False], ids=["taken over", "expired"])
async def test_former_owner_changes_nothing(owner: PartitionOwner, raw: Raw, step: str, successor: bool) -> None:
    ids = await owner.accepted(3)
    await raw.delete(owner.keys.lease(0))
    if successor:
        await PartitionOwner.open(owner.client, owner.keys, "two")
    before = await everything(raw, owner.keys)
    with pytest.raises(LeaseLost, match="is held by another worker or has expired"):
        await FENCED[step](owner, ids)
    assert await everything(raw, owner.keys) == before


async def everything(raw: Raw, keys: Keys) -> dict[bytes, object]:
    """All keys of the partition with their values, and all that the groups hold."""
    names = [name async for name in raw.scan_iter(f"{keys.prefix}:{{0}}*")]
    groups = await raw.xpending_range(keys.stream(0), GROUP, "-", "+", 1000)
    for entry in groups:
        del entry["time_since_delivered"]
    return {name: await raw.dump(name) for name in names if not name.endswith(b"{0}")} | {b"pending": groups}


async def test_former_owner_accepts_nothing_while_others_go_on(owner: PartitionOwner, raw: Raw) -> None:
    (lease,), _ = await owner.leases.acquire([1], "one")
    await owner.entries.take_over(lease)
    (ours,) = await owner.push(1)
    theirs = (await raw.xadd(owner.keys.stream(1), {"a": "b"})).decode()
    await raw.delete(owner.keys.lease(0))
    lost, accepted = await owner.entries.accept([(owner.lease, [ours]), (lease, [theirs])])
    assert isinstance(lost, LeaseLost)
    assert accepted == {theirs}
    assert await pending(raw, owner) == {}


async def test_every_step_works_in_a_full_redis(own_redis: Callable[..., RedisServer]) -> None:
    """maxmemory refuses pushes; what drains Redis must still write."""
    server = own_redis()
    client = Client(connect(server.url))
    owner = await PartitionOwner.open(client, Keys("pcm"), "one")
    ids = await owner.push(6, pcm=bytes(100_000))
    await client.nodes[0].redis.config_set("maxmemory", "1kb")
    with pytest.raises(Exception, match="maxmemory"):
        await owner.push(1)
    owner = await PartitionOwner.open(client, Keys("pcm"), "two")
    assert await owner.accept(ids) == set(ids)
    assert await owner.entries.mark_suspect(owner.lease, Conversation("u", "c")) == 1
    assert await owner.entries.dead_letter(owner.lease, {ids[0]: "bad"}) == 1
    await owner.entries.discard(owner.lease, ids[1:2])
    seal = sealed(ids[2:])
    assert await owner.entries.seal(owner.lease, [seal]) == [None]
    assert await owner.leases.renew([owner.lease]) == []
    assert await owner.done(seal, b"8 bytes.") == "done"
    await owner.leases.release(owner.lease)
    assert (await owner.entries.backlog([0])).entries == {0: 0}
    await client.close()
