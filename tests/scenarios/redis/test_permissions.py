"""The Redis users of SECURITY.md may do what they need, and pushers nothing else."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio

from codec.entry import Chunk, partition_of
from tests.support.command import command
from tests.support.gcs.server import GcsServer
from tests.support.harness import EXACT, HANDOFF, Harness, eventually, remove
from tests.support.oracle import Talk, assert_stored_once, blobs_of
from tests.support.producing import Troubles, producing, push, stored_seqs
from tests.support.redis_server import RedisServer
from tests.tools.readme import CHART, TOP
from worker.errors import NotSent, StreamError
from worker.events import EventReader
from worker.producer import Limits
from worker.runtime.timing import GaugeTiming, ReadingTiming, Timing
from worker.settings import Settings
from worker.stream.client import Client
from worker.stream.keys import Keys
from worker.stream.leases import Leases, Member
from worker.stream.servers.connecting import connect

USERS = dict(re.findall(r"^ACL SETUSER (\w+) on >PASSWORD (.+)$", (CHART / "SECURITY.md").read_text(), re.MULTILINE))
PARTS = ("lease", "epoch", "ready", "done", "dead", "trials", "deleted", "lost", "seen:u/c", "seen:u/c}", "withdrawn:x")


@pytest.fixture
def timing() -> Timing:
    return Timing(
        reading=ReadingTiming(poll=0.05),
        gauges=GaugeTiming(observe=0.05, account=0.1, busy_account=0.1, strays=0.1, stray_step=0.0),
    )


@pytest.fixture
def server(own_redis: Callable[..., RedisServer]) -> RedisServer:
    server = own_redis()
    with server.client() as admin:
        for user, rules in USERS.items():
            groups = re.findall(r"\([^)]*\)|\S+", rules)
            admin.execute_command("ACL", "SETUSER", user, "on", ">word", *groups)
    return server


@pytest.fixture
async def admin(server: RedisServer) -> AsyncIterator[redis.asyncio.Redis]:
    async with redis.asyncio.Redis.from_url(server.url) as client:
        yield client


@pytest.fixture
def dry_run(server: RedisServer) -> Iterator[Callable[..., bool]]:
    """Whether a user may run a command."""
    with server.client() as admin:

        def may(user: str, *words: str) -> bool:
            answer: bytes = admin.execute_command("ACL", "DRYRUN", user, *words)
            return answer == b"OK"

        yield may


@pytest.fixture
def of(server: RedisServer, settings: Callable[..., Settings]) -> Callable[[str], Callable[..., Settings]]:
    """Settings of a user."""
    return lambda user: partial(settings, redis_url=as_user(server, user), stream_prefix="pcm")


@pytest.fixture
def here(
    of: Callable[[str], Callable[..., Settings]], admin: redis.asyncio.Redis, gcs_server: GcsServer, timing: Timing
) -> Harness:
    """Workers with the worker's user; the harness itself may do everything."""
    return Harness(of("worker"), admin, gcs_server, timing)


def as_user(server: RedisServer, user: str) -> str:
    return server.url.replace("//", f"//{user}:word@")


async def refused(admin: Any, user: str) -> set[str]:  # noqa: ANN401 -- the library does not type it
    """What Redis has refused to a user, but for what the library asks from Redis 7.2 on and can do without."""
    return {entry["object"] for entry in await admin.acl_log() if entry["username"] == user} - {"client|setinfo"}


def test_a_pusher_reaches_the_streams_of_partitions_and_nothing_else(dry_run: Callable[..., bool]) -> None:
    xadd = ("*", "uid", "u")
    for number in range(256):
        assert dry_run("pusher", "XADD", f"pcm:{{{number}}}", *xadd)
    others = [f"pcm:{{{number}}}" for number in ("256", "299", "1000", "00", "-1", "*", "")] + [
        "pcm:59",
        "pcm2:{3}",
        "pcm",
    ]
    subkeys = [f"pcm:{{{number}}}:{part}" for number in (0, 63) for part in PARTS]
    for key in ["pcm:config", "pcm:workers", *subkeys, *others]:
        assert not dry_run("pusher", "XADD", key, *xadd)
        assert not dry_run("pusher", "XRANGE", key, "-", "+")
    assert dry_run("pusher", "HMGET", "pcm:config", "partitions", "contract")
    for words in (("HSETNX", "pcm:config", "a", "b"), ("XRANGE", "pcm:{0}", "-", "+"), ("EVAL", "return 1", "0")):
        assert not dry_run("pusher", *words)


def test_a_wider_pattern_would_reach_more(server: RedisServer, dry_run: Callable[..., bool]) -> None:
    with server.client() as admin:
        for user, pattern in (("wide", "~pcm:*"), ("narrower", "~pcm:{*}")):
            admin.execute_command("ACL", "SETUSER", user, "on", ">word", pattern, "+xadd")
    assert dry_run("wide", "XADD", "pcm:{0}:lease", "*", "a", "b")
    assert not dry_run("narrower", "XADD", "pcm:{0}:lease", "*", "a", "b")
    assert dry_run("narrower", "XADD", "pcm:{0}:seen:u/c}", "*", "a", "b")


@pytest.mark.parametrize("user", ["worker", "operator"])
def test_every_command_of_the_scripts_is_allowed(dry_run: Callable[..., bool], user: str) -> None:
    folder = TOP / "worker/stream/scripts"
    sources = "".join(path.read_text() for path in folder.glob("*.lua"))
    calls = set(re.findall(r"redis\.p?call\('([A-Z]+)'(?:, '([A-Z]+)')?", sources))
    needed = {name if name not in ("XINFO", "XGROUP", "MEMORY") else f"{name} {sub}" for name, sub in calls}
    if user == "operator":
        needed -= {"SET", "PEXPIRE"}  # only workers store and own
    assert len(needed) > 30
    refused = {words for words in needed if not dry_run(user, *words.split(), *["pcm:{0}"] * _padding(dry_run, words))}
    assert refused == set()


def _padding(dry_run: Callable[..., bool], words: str) -> int:
    """How many arguments a command takes at least."""
    for count in range(8):
        with suppress(redis.ResponseError):
            dry_run("default", *words.split(), *["pcm:{0}"] * count)
            return count
    raise AssertionError(words)


async def test_a_pusher_pushes_what_a_worker_has_made_room_for(server: RedisServer, admin: redis.asyncio.Redis) -> None:
    async with producing(as_user(server, "pusher"), "pcm") as producer:
        with pytest.raises(StreamError, match=r"pcm:config is not recorded yet, .* start a worker first"):
            await producer.check()
        await push(producer, "c1")
        await admin.hset("pcm:config", mapping={"partitions": 8, "contract": 1})
        await producer.flush()
    assert await stored_seqs(admin, "pcm", "c1") == [0]


async def test_a_backend_reads_done_events_and_no_audio(
    server: RedisServer, admin: redis.asyncio.Redis, here: Harness, dry_run: Callable[..., bool]
) -> None:
    await here.say(Talk("c"), 3)
    await here.drain()
    async with EventReader(as_user(server, "backend")) as reader:
        assert [received.event.conversation_id for received in await reader.read()] == ["c"]
    assert await refused(admin, "backend") == set()
    for part in PARTS:
        assert dry_run("backend", "XREAD", "STREAMS", f"pcm:{{1}}:{part}", "0") is (part == "done")
    assert not dry_run("backend", "XREAD", "STREAMS", "pcm:{1}", "0")
    assert not dry_run("backend", "XADD", "pcm:{1}:done", "*", "uid", "u")


@pytest.mark.parametrize(("user", "counted"), [("pusher", 0), ("counting", 1)])
async def test_a_pusher_counts_what_redis_has_lost_if_it_may_ask(
    server: RedisServer, admin: redis.asyncio.Redis, user: str, counted: int
) -> None:
    await admin.hset("pcm:config", mapping={"partitions": 8, "contract": 1})
    async with producing(as_user(server, user), "pcm") as producer:
        await push(producer, "c1", 0)
        await producer.flush()
        await admin.delete(f"pcm:{{{partition_of('c1', 8)}}}")
        for master in (("127.0.0.1", "1"), ("NO", "ONE")):  # its data have another history now
            await admin.replicaof(*master)
        await admin.client_kill_filter(_type="normal", skipme=True)  # as Sentinel does
        await push(producer, "c1", 1)
        await producer.flush()
        assert producer.stats().lost_entries == counted
    assert await stored_seqs(admin, "pcm", "c1") == [1]


async def test_a_pusher_may_wait_for_replicas(server: RedisServer, admin: redis.asyncio.Redis) -> None:
    await admin.hset("pcm:config", mapping={"partitions": 8, "contract": 1})
    troubles = Troubles()
    limits = Limits(reply_timeout=0.2, close_within=0)
    async with producing(as_user(server, "pusher"), "pcm", limits=limits, on_trouble=troubles, replicas=1) as producer:
        await push(producer, "c1", 0)
        await troubles.of("unreplicated")
        with pytest.raises(NotSent, match="0 of 1 replicas"):
            await producer.close()


async def test_a_worker_does_all_its_work_as_its_user(here: Harness, admin: redis.asyncio.Redis) -> None:
    whole, cut, deleted = Talk("whole"), Talk("cut"), Talk("deleted")
    await admin.xadd("other:{3}", {"uid": "u", "conversation_id": "c", "pcm": "x"})
    await admin.xadd("jobs:{3}", {"job": "1"})
    async with here.worker(**HANDOFF) as first:
        await here.say(cut, 1)
        await eventually(lambda: first.count("chunks_total") == 2)
    async with here.worker(**EXACT, worker_id="anna") as anna, here.worker(**EXACT, worker_id="bob") as bob:
        await eventually(lambda: anna.count("partitions_owned") == bob.count("partitions_owned") == 1)
        await here.say(deleted, 1)
        await remove(here_as_admin(here, admin), "deleted")
        chunks = [whole.say(0.5) for _ in range(6)]
        await here.push(*chunks, *chunks[:2], cut.end(), deleted.end())
        await admin.xadd("pcm:{0}", {"not": "a chunk"})
        await admin.xadd("pcm:9", {"uid": "u", "conversation_id": "c", "pcm": "x"})
        await eventually(here.is_empty)
        await eventually(lambda: anna.count("stray_entries") == 2)  # of both prefixes
    assert_stored_once(whole, here.blobs())
    assert_stored_once(cut, here.blobs())
    assert blobs_of(deleted, here.blobs()) == []
    assert len(await here.dead()) == 1
    assert await refused(admin, "worker") == set()


async def test_an_operator_runs_every_command_as_its_user(
    here: Harness, admin: redis.asyncio.Redis, of: Callable[[str], Callable[..., Settings]]
) -> None:
    made = of("operator")(partitions=2, store_url=f"gs://{here.server.bucket}", storage_emulator_host=here.server.url)

    async def run(*words: str) -> int:
        result = await asyncio.to_thread(command, made, *words)
        assert "NOPERM" not in result.output
        assert "NoPermission" not in result.output
        return result.exit_code

    await here.drain(**EXACT)
    await admin.xadd("pcm:{0}", {"not": "a chunk"})
    wide = {f"field {number}": "" for number in range(5000)}
    await admin.xadd("pcm:{1}", wide)  # type: ignore[arg-type]
    async with here.worker(**EXACT) as running:
        await eventually(lambda: running.count("dead_letters_total", kind="invalid") == 2)
    await admin.xadd("pcm:9", dict(Chunk("u", "c", 1.0, bytes(320)).fields()))  # type: ignore[arg-type]
    assert await run("status") == 0
    assert await run("streams", "ls") == 3
    assert await run("streams", "move", "--all") == 0
    assert await run("dead-letters", "ls") == 0
    assert await run("dead-letters", "replay", "--all") == 0
    assert await run("dead-letters", "drop", "--all", "--yes") == 0
    assert await run("audit", "--uid", "u", "--conversation", "c") == 1
    assert await run("rm", "--uid", "u", "--yes") == 0
    assert await refused(admin, "operator") == set()


@pytest.mark.parametrize(
    "words",
    [
        "status",
        "status --check",
        "streams ls",
        "dead-letters ls",
        "audit --uid u --conversation c",
        "rm --uid u --yes",
    ],
)
async def test_user_that_may_not_run_a_command_is_told_which_user_it_needs(
    admin: redis.asyncio.Redis, of: Callable[[str], Callable[..., Settings]], tmp_path: Path, words: str
) -> None:
    await admin.hset("pcm:config", mapping={"partitions": 2, "contract": 1})
    made = of("pusher")(partitions=2, store_url=tmp_path.as_uri())

    result = await asyncio.to_thread(command, made, *words.split())

    told = f"{result.output} {result.exception}"
    assert "operator, each as in deploy/helm/SECURITY.md" in told
    assert told.count("SECURITY.md") <= 2  # in the output, and in the exception that ends the command
    assert result.exit_code != 0 or words == "status"


async def test_worker_with_a_pushers_user_is_told_which_user_it_needs(server: RedisServer) -> None:
    async with Client(connect(as_user(server, "pusher"))) as client:
        with pytest.raises(StreamError, match=r"a worker the user worker"):
            await Leases(client, Keys("pcm"), 8, 30.0).heartbeat(Member("a worker"))


def here_as_admin(here: Harness, admin: redis.asyncio.Redis) -> Harness:
    """The same harness, whose own steps may do everything."""
    url = f"redis://127.0.0.1:{admin.connection_pool.connection_kwargs['port']}/0"
    return Harness(partial(here.settings, redis_url=url), admin, here.server, here.timing)
