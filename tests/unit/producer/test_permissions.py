"""A pusher's Redis user may do what SECURITY.md says it needs, and nothing else."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import redis.asyncio

from tests.support.producing import PARTITIONS, producing, push, stored_seqs
from tests.tools.readme import CHART

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.redis_server import RedisServer


async def test_the_documented_permissions_suffice(own_redis: Callable[..., RedisServer]) -> None:
    rules = re.search(
        r"`audio_batch_worker\.producer` and `push` need `(~pcm:\* [^`]+)`", (CHART / "SECURITY.md").read_text()
    )
    assert rules
    server = own_redis()
    async with redis.asyncio.Redis.from_url(server.url) as admin:
        await admin.execute_command("ACL", "SETUSER", "pusher", "on", ">word", *rules[1].split())  # type: ignore[no-untyped-call]
        async with producing(server.url.replace("//", "//pusher:word@"), "pcm") as producer:
            await push(producer, "c1")
        assert await stored_seqs(admin, "pcm", "c1") == [0]
        assert await admin.hget("pcm:config", "partitions") == b"%d" % PARTITIONS
