"""What holds for every step of an entry through Redis: only the owner takes it, and a full Redis lets it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from tests.support.partition_owner import Desk, Raw, pending, sealed
from tests.support.redis_server import RedisServer
from worker.errors import LeaseLost
from worker.model.ids import Conversation
from worker.stream.client import Client, connect
from worker.stream.keys import GROUP, Keys

FENCED: dict[str, Callable[[Desk, list[str]], Awaitable[object]]] = {
    "take over": lambda desk, _: desk.entries.take_over(desk.lease),
    "discard": lambda desk, ids: desk.entries.discard(desk.lease, ids),
    "dead_letter": lambda desk, ids: desk.entries.dead_letter(desk.lease, dict.fromkeys(ids, "bad")),
    "seal": lambda desk, ids: desk.entries.seal(desk.lease, [sealed(ids)]),
    "unseal": lambda desk, ids: desk.entries.unseal(desk.lease, sealed(ids)),
    "begin trial": lambda desk, _: desk.entries.mark_suspect(desk.lease, Conversation("u", "c")),
    "end trial": lambda desk, _: desk.entries.clear_suspect(desk.lease, Conversation("u", "c")),
}


@pytest.mark.parametrize("step", FENCED)
@pytest.mark.parametrize("successor", [True, False], ids=["taken over", "expired"])
async def test_former_owner_changes_nothing(desk: Desk, raw: Raw, step: str, successor: bool) -> None:
    ids = await desk.accepted(3)
    await raw.delete(desk.keys.lease(0))
    if successor:
        await Desk.open(desk.client, desk.keys, "two")
    before = await everything(raw, desk.keys)
    with pytest.raises(LeaseLost, match="is held by another worker or has expired"):
        await FENCED[step](desk, ids)
    assert await everything(raw, desk.keys) == before


async def everything(raw: Raw, keys: Keys) -> dict[bytes, object]:
    """All keys of the partition with their values, and all that the groups hold."""
    names = [name async for name in raw.scan_iter(f"{keys.prefix}:{{0}}*")]
    groups = await raw.xpending_range(keys.stream(0), GROUP, "-", "+", 1000)
    for entry in groups:
        del entry["time_since_delivered"]
    return {name: await raw.dump(name) for name in names if not name.endswith(b"{0}")} | {b"pending": groups}


async def test_former_owner_accepts_nothing_while_others_go_on(desk: Desk, raw: Raw) -> None:
    (lease,), _ = await desk.leases.acquire([1], "one")
    await desk.entries.take_over(lease)
    (ours,) = await desk.push(1)
    theirs = (await raw.xadd(desk.keys.stream(1), {"a": "b"})).decode()
    await raw.delete(desk.keys.lease(0))
    lost, accepted = await desk.entries.accept([(desk.lease, [ours]), (lease, [theirs])])
    assert isinstance(lost, LeaseLost)
    assert accepted == {theirs}
    assert await pending(raw, desk) == {}


async def test_every_step_works_in_a_full_redis(own_redis: Callable[..., RedisServer]) -> None:
    """maxmemory refuses pushes; what drains Redis must still write."""
    server = own_redis()
    client = Client(connect(server.url))
    desk = await Desk.open(client, Keys("pcm"), "one")
    ids = await desk.push(6, pcm=bytes(100_000))
    await client.redis.config_set("maxmemory", "1mb")
    with pytest.raises(Exception, match="maxmemory"):
        await desk.push(1)
    desk = await Desk.open(client, Keys("pcm"), "two")
    assert await desk.accept(ids) == set(ids)
    assert await desk.entries.mark_suspect(desk.lease, Conversation("u", "c")) == 1
    assert await desk.entries.dead_letter(desk.lease, {ids[0]: "bad"}) == 1
    await desk.entries.discard(desk.lease, ids[1:2])
    seal = sealed(ids[2:])
    assert await desk.entries.seal(desk.lease, [seal]) == [None]
    assert await desk.leases.renew([desk.lease]) == []
    assert await desk.done(seal, b"8 bytes.") == "done"
    await desk.leases.release(desk.lease)
    assert (await desk.entries.backlog([0])).entries == {0: 0}
    await client.close()
