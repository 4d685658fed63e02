"""The connection: scripts by name, errors translated, nothing repeated in silence."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

import pytest
import redis.exceptions
from redis.asyncio.client import Pipeline
from structlog.testing import capture_logs

from tests.support.partition_owner import Raw
from tests.support.proxy import Proxy
from tests.support.redis_server import RedisServer
from worker.errors import LeaseLost, SettingsError, StreamError
from worker.stream.client import Client
from worker.stream.config import record_or_check
from worker.stream.keys import Keys
from worker.stream.scripting import Call, script
from worker.stream.servers.checks import ServerState, check_servers, server_states
from worker.stream.servers.connecting import connect
from worker.stream.servers.failures import stream_error
from worker.stream.servers.reply_limit import at_most

OWNERS = {"accept", "dead_letter", "claim", "discard", "release", "seal", "sweep", "suspect", "unseal"}


@pytest.mark.parametrize("name", sorted(OWNERS))
def test_script_that_only_an_owner_runs_checks_the_lease_first(name: str) -> None:
    assert script(name).index("LEASELOST") < script(name).rindex("redis.call")


@pytest.mark.parametrize("name", sorted(OWNERS | {"done", "heartbeat", "acquire", "renew", "seen"}))
def test_script_that_drains_may_write_when_redis_is_full(name: str) -> None:
    assert script(name).startswith("#!lua flags=allow-oom\n")


async def test_scripts_survive_a_flush_of_the_script_cache(client: Client, keys: Keys, raw: Raw) -> None:
    call = Call("config", [keys.config], [8, "1"])
    for _ in range(2):
        await raw.script_flush()
        assert await client.run(call) == [b"8", b"1", b"8"]


async def test_missing_scripts_are_repeated_in_their_places(client: Client, keys: Keys, raw: Raw) -> None:
    await client.run(Call("config", [keys.config], [8, "1"]))
    await raw.script_flush()
    await client.run(Call("config", [keys.config], [8, "1"]))
    replies = await client.gather(
        [
            Call("config", [keys.config], [8, "1"]),
            Call("sweep", [keys.lease(0), keys.stream(0)], ["no token", "group", "one"]),
            Call("config", [f"{keys.prefix}:other"], [9, "1"]),
        ]
    )
    assert replies[0] == [b"8", b"1", b"8"]
    assert isinstance(replies[1], LeaseLost)
    assert replies[2] == [b"9", b"1", b"9"]


async def test_server_gets_a_script_that_it_does_not_know_only_once(client: Client, keys: Keys, raw: Raw) -> None:
    await raw.script_flush()
    before = await _whole_scripts(raw)
    calls = [Call("config", [f"{keys.config}:{number}"], [8, "1"]) for number in range(20)]
    assert await client.gather(calls) == 20 * [[b"8", b"1", b"8"]]
    assert await _whole_scripts(raw) == before + 1


async def _whole_scripts(raw: Raw) -> int:
    """How many scripts the server has received as text."""
    return int((await raw.info("commandstats")).get("cmdstat_eval", {}).get("calls", 0))


async def test_refusal_of_one_script_is_told_as_such(client: Client, keys: Keys, raw: Raw) -> None:
    await raw.set(keys.config, "no hash")
    told = f"{keys.config} is a string, where a hash belongs: .* redis-cli RENAME '{keys.config}'"
    with pytest.raises(StreamError, match=told) as caught:
        await client.run(Call("config", [keys.config], [8, "1"]))
    assert caught.value.cause == "refused"


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (redis.exceptions.ConnectionError("gone"), "connection"),
        (redis.exceptions.TimeoutError("slow"), "connection"),
        (OSError("network"), "connection"),
        (TimeoutError(), "connection"),
        (redis.exceptions.ReadOnlyError("replica"), "readonly"),
        (redis.exceptions.ResponseError("WRONGTYPE"), "refused"),
    ],
)
def test_cause_tells_what_can_be_done(error: Exception, cause: str) -> None:
    assert stream_error(error).cause == cause


def test_untrusted_text_in_an_error_is_cut() -> None:
    assert len(str(stream_error(redis.exceptions.ResponseError("x" * 100_000)))) < 300


async def test_silent_server_is_given_up_in_time(proxy: Proxy, keys: Keys) -> None:
    client = Client(connect(proxy.url, timeout=0.1))
    proxy.stall()
    with pytest.raises(StreamError) as caught:
        await client.run(Call("config", [keys.config], [8, "1"]))
    assert caught.value.cause == "connection"
    assert client.nodes[0].must_recheck
    await client.close()


async def test_lost_reply_is_an_error_and_the_command_is_not_repeated(proxy: Proxy, keys: Keys, raw: Raw) -> None:
    client = Client(connect(proxy.url))
    await client.command(lambda pipe: pipe.incr(f"{keys.prefix}:n"), f"{keys.prefix}:n")
    proxy.drop_reply(b"INCR")
    with pytest.raises(StreamError):
        await client.command(lambda pipe: pipe.incr(f"{keys.prefix}:n"), f"{keys.prefix}:n")
    assert await raw.get(f"{keys.prefix}:n") == b"2"
    await client.command(lambda pipe: pipe.incr(f"{keys.prefix}:n"), f"{keys.prefix}:n")
    assert await raw.get(f"{keys.prefix}:n") == b"3"
    await client.close()


async def test_another_server_process_is_another_incarnation(own_redis: Callable[..., RedisServer]) -> None:
    server = own_redis()
    client = Client(connect(server.url))
    (node,) = client.nodes
    first = await node.server_id()
    assert await node.server_id() == first
    server.restart()
    await node.reconnect()
    assert await node.server_id() != first
    await client.close()


async def test_clock_is_that_of_redis(redis_url: str) -> None:
    now = 100.0
    client = Client(connect(redis_url), clock=lambda: now)
    client.nodes[0].sync_clock(5_000_000)
    now = 101.5
    assert client.now_ms() == 5_001_500
    await client.close()


async def test_config_is_recorded_by_the_first_and_compared_by_the_others(client: Client, keys: Keys, raw: Raw) -> None:
    await record_or_check(client, keys, 64)
    assert await raw.hgetall(keys.config) == {b"partitions": b"64", b"contract": b"1", b"layouts": b"64"}
    await record_or_check(client, keys, 64)
    with pytest.raises(SettingsError, match=r"PARTITIONS is 32, but .* records 64: set PARTITIONS=64"):
        await record_or_check(client, keys, 32)


async def test_other_contract_version_is_refused(client: Client, keys: Keys, raw: Raw) -> None:
    await raw.hset(keys.config, mapping={"partitions": "64", "contract": "2"})
    with pytest.raises(SettingsError, match=r"STREAM_PREFIX .* records contract version 2, this program speaks 1"):
        await record_or_check(client, keys, 64)


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "allkeys-random"])
async def test_server_that_evicts_streams_is_refused(own_redis: Callable[..., RedisServer], policy: str) -> None:
    client = Client(connect(own_redis(maxmemory_policy=policy).url))
    with pytest.raises(SettingsError, match=f"REDIS_URL: Redis evicts pending audio with maxmemory-policy {policy}"):
        await check_servers(client)
    await client.close()


@pytest.mark.parametrize(("policy", "warnings"), [("noeviction", []), ("volatile-lru", ["redis.may_forget"])])
async def test_server_that_keeps_streams_is_accepted(
    own_redis: Callable[..., RedisServer], policy: str, warnings: list[str]
) -> None:
    client = Client(connect(own_redis(maxmemory_policy=policy, maxmemory="50mb").url))
    with capture_logs() as events:
        (version,) = await check_servers(client)
        assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    assert [event["event"] for event in events] == warnings
    (state,) = await server_states(client)
    assert isinstance(state, ServerState)
    assert 0 < state.memory < state.memory_limit == 50 * 1024 * 1024
    assert state.policy == policy
    await client.close()


async def test_wrong_password_is_a_wrong_setting(own_redis: Callable[..., RedisServer]) -> None:
    server = own_redis()
    with server.client() as admin:
        admin.config_set("requirepass", "right")
    for url in (server.url, server.url.replace("redis://", "redis://:wrong@")):
        client = Client(connect(url))
        with pytest.raises(SettingsError, match="REDIS_URL: Redis refuses the user or password"):
            await check_servers(client)
        await client.close()


@pytest.mark.slow
@pytest.mark.parametrize("commands", [0, 1, 2, 3])
async def test_a_cancellation_that_comes_between_commands_ends_the_task(client: Client, commands: int) -> None:
    """As Ctrl-C does while a command of the command line computes, prints or writes a file."""
    finished = 0

    def ping(pipe: Pipeline) -> None:
        pipe.exists("none")

    async def interrupted() -> None:
        nonlocal finished
        for number in range(commands + 3):
            if number == commands:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
            await client.pipeline(ping)
            finished += 1

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(interrupted())
    assert finished == commands


async def test_a_cancelled_task_still_tidies_up(client: Client) -> None:
    async def cancelled() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        try:
            await asyncio.Event().wait()
        finally:
            answers.append(await client.command(lambda pipe: pipe.exists("none"), "none"))

    answers: list[int] = []
    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(cancelled())
    assert answers == [0]


async def test_a_cancelled_task_ends_whatever_its_command_is_doing(client: Client) -> None:
    """Python 3.11 swallows a cancellation that comes just when the library has sent its command."""

    async def busy() -> None:
        while True:
            await client.command(lambda pipe: pipe.get("none"), "none")

    for turns in range(200):
        task = asyncio.create_task(busy())
        for _ in range(turns % 50):
            await asyncio.sleep(0)
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=5)
        assert done == {task}


async def test_reply_that_is_too_large_is_given_up_with_its_connection(client: Client, keys: Keys, raw: Raw) -> None:
    await raw.set(keys.config, bytes(1_000_000))

    def ask_thrice(pipe: Pipeline) -> None:
        for _ in range(3):
            pipe.get(keys.config)

    with at_most(2_000_000):
        replies = await client.pipeline(ask_thrice)
    assert {(reply.cause, "over 2000000 bytes" in str(reply)) for reply in replies} == {("large", True)}
    with at_most(4_000_000):
        assert len(await client.pipeline(ask_thrice)) == 3
    assert len(await client.pipeline(ask_thrice)) == 3
