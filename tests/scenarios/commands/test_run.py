"""`audio-batch-worker run`: wrong settings, signals, probes."""

from __future__ import annotations

import asyncio
import fcntl
import json
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.support.harness import EXACT, Harness, HarnessMaker, eventually
from tests.support.oracle import Talk, assert_stored_once
from tests.support.paths import ROOT
from tests.support.process import Process, environment
from tests.support.redis_server import RedisServer
from tests.support.secret import TEST_SECRET
from worker.runtime.metrics import PREFIX

MANY_LINES = 50
"""Of log, for a run that stores a batch."""


async def complaint(variables: dict[str, str]) -> str:
    """The one line that a run with wrong settings ends with, beside its log."""
    async with Process(variables, "run", "--drain") as process:
        assert await process.ended() == 2, process.lines
    (line,) = process.complaints
    assert TEST_SECRET not in "".join(process.lines)
    return line.removeprefix("audio-batch-worker: ")


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"ENCRYPTION_SECRET": "short"}, "ENCRYPTION_SECRET has 5 bytes; it needs at least 32"),
        ({"ENCRYPTION_SECRET": ""}, "ENCRYPTION_SECRET is not set: give at least 32 bytes"),
        ({"STORE_URL": ""}, "STORE_URL is not set: give gs://bucket[/prefix] or file:///directory"),
        ({"STORE_URL": "s3://bucket"}, "STORE_URL must be gs://bucket[/prefix] or file:///directory"),
        ({"REDIS_URL": "http://localhost"}, "REDIS_URL must start with redis://, rediss://"),
        ({"REDIS_URL": "redis://localhost:port/0"}, "REDIS_URL "),
        ({"PARTITIONS": "many"}, "PARTITIONS is 'many': it should be a valid integer"),
        ({"SPOOL_MODE": "outage", "SPOOL_DIR": f"{__file__}/spool"}, "SPOOL_DIR: "),
        ({"SPOOL_DIR": __file__}, "SPOOL_DIR: "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
async def test_wrong_setting_is_one_sentence_that_names_it(
    harness: Harness, variables: dict[str, str], sentence: str
) -> None:
    assert (await complaint(environment(harness.settings()) | variables)).startswith(sentence)


async def test_wrong_settings_are_told_together(harness: Harness) -> None:
    wrong = {"PARTITIONS": "many", "REDIS_URL": "redis://:horse#battery@host", "SPOOL_MODE": "always"}
    async with Process(environment(harness.settings()) | wrong, "run") as process:
        assert await process.ended() == 2
    assert [line.split()[1] for line in process.lines] == ["REDIS_URL", "PARTITIONS", "SPOOL_MODE"]
    assert not any("horse" in line or "battery" in line for line in process.lines)


async def test_start_shows_the_settings_in_effect_and_warns_of_misspelt_ones(harness: Harness) -> None:
    settings = harness.settings()
    async with Process(environment(settings) | {"BATCH_MAX_SECOND": "5"}, "run", "--drain") as process:
        assert await process.ended() == 0
    (started,) = process.events("worker.started")
    assert started["settings"] == json.loads(json.dumps(settings.public())) | {"WORKER_ID": started["worker"]}
    assert started["settings"]["ENCRYPTION_SECRET"] == "***"
    (warning,) = process.events("settings.misspelt")
    assert (warning["variable"], warning["meant"]) == ("BATCH_MAX_SECOND", "BATCH_MAX_SECONDS")


async def test_start_warns_of_blobs_that_readers_would_not_join(harness: Harness) -> None:
    variables = {"BATCH_MAX_SECONDS": "88.5", "GAP_TOLERANCE": "2"}
    async with Process(environment(harness.settings()) | variables, "run", "--drain") as process:
        assert await process.ended() == 0
    (warning,) = process.events("settings.files_split")
    assert (warning["batch_max_seconds"], warning["gap_tolerance"], warning["at_most_together"]) == (88.5, 2.0, 90.0)


async def test_other_number_of_partitions_than_redis_records(harness: Harness) -> None:
    await harness.redis.hset(harness.keys.config, mapping={"partitions": "64", "contract": "1"})
    line = await complaint(environment(harness.settings()))
    assert line.startswith(f"PARTITIONS is 2, but {harness.keys.config} in Redis records 64: set PARTITIONS=64")


async def test_redis_that_evicts(own_redis: Callable[..., RedisServer], harness_at: HarnessMaker) -> None:
    server = own_redis(maxmemory_policy="allkeys-lru")
    harness = await harness_at(server, server)
    line = await complaint(environment(harness.settings()))
    assert line.startswith("REDIS_URL: Redis evicts pending audio with maxmemory-policy allkeys-lru: set")


async def test_database_that_redis_does_not_have(
    own_redis: Callable[..., RedisServer], harness_at: HarnessMaker
) -> None:
    server = own_redis(databases="2")
    harness = await harness_at(server, server)
    line = await complaint(environment(harness.settings()) | {"REDIS_URL": server.url.removesuffix("/0") + "/2"})
    assert line.startswith("REDIS_URL: Redis refuses the database: DB index is out of range")


async def test_bucket_that_does_not_exist(harness: Harness) -> None:
    line = await complaint(environment(harness.settings(store_url="gs://no-such-bucket")))
    assert line.startswith("STORE_URL")
    assert "no-such-bucket" in line


async def test_bucket_that_refuses(harness: Harness) -> None:
    harness.server.fail("*", status=403, times=10)
    assert (await complaint(environment(harness.settings()))).startswith("STORE_URL")


async def test_directory_that_can_not_be_made(harness: Harness, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    line = await complaint(environment(harness.settings(store_url=(tmp_path / "file" / "store").as_uri())))
    assert line.startswith("STORE_URL")


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])


async def test_port_that_is_taken(harness: Harness, taken_port: int) -> None:
    assert (await complaint(environment(harness.settings(http_port=taken_port)))).startswith(f"HTTP_PORT {taken_port}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signal_flushes_and_exits_with_0(harness: Harness, number: signal.Signals) -> None:
    talk = Talk("c")
    async with Process(environment(harness.settings(**EXACT)), "run") as process:
        await harness.say(talk, 1)

        async def accepted() -> bool:
            return await harness.pending() == 2

        await eventually(accepted)
        process.signal(number)
        assert await process.ended() == 0
    await harness.assert_empty()
    assert process.complaints == []
    assert_stored_once(talk, harness.blobs())


async def test_signal_ends_a_drain_that_the_store_holds_up(harness: Harness) -> None:
    talk = Talk("c")
    await harness.say(talk, 1)
    fault = harness.server.fail("insert.*", status=503, times=1000)
    async with Process(environment(harness.settings(shutdown_grace=3.0, **EXACT)), "run", "--drain") as process:
        await eventually(lambda: process.events("store.refused"))
        process.signal(signal.SIGTERM)
        assert await process.ended() == 0
    assert process.events("worker.stopped")
    harness.server.script.faults.remove(fault)
    await harness.drain(**EXACT)
    assert_stored_once(talk, harness.blobs())


async def test_volume_that_hangs_can_not_hold_up_the_end(harness: Harness, tmp_path: Path) -> None:
    await harness.say(Talk("c"), 0.5)
    store = tmp_path / "store"
    settings = harness.settings(store_url=store.as_uri(), shutdown_grace=3.0)
    async with Process(environment(settings), "run") as process:

        async def accepted() -> bool:
            return await harness.pending() == 1

        await eventually(accepted)
        with (store / ".metadata" / ".lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # whoever writes now waits in a thread, as for a volume that is gone
            process.signal(signal.SIGTERM)
            assert await process.ended() == 0
    assert process.events("worker.stopped")
    assert process.events("worker.threads_left")


async def test_second_signal_ends_it_at_once_and_the_next_worker_recovers(harness: Harness) -> None:
    talk = Talk("c")
    gate = harness.server.hold(stage="request")
    async with Process(environment(harness.settings(lease_ttl=1.0, **EXACT)), "run") as process:
        await harness.say(talk, 3)
        await gate.reached()
        process.signal(signal.SIGTERM)
        await eventually(lambda: process.events("worker.stopping"))
        process.signal(signal.SIGTERM)
        assert await process.ended() == -signal.SIGTERM
    gate.open()
    await harness.drain(lease_ttl=1.0, **EXACT)
    assert_stored_once(talk, harness.blobs())


async def test_drain_of_nothing_ends_and_leaves_no_worker_behind(harness: Harness) -> None:
    async with Process(environment(harness.settings()), "run", "--drain") as process:
        assert await process.ended() == 0
    assert await harness.redis.hgetall(harness.keys.workers) == {}
    assert process.complaints == []


async def test_probes_and_metrics_answer_while_redis_is_away_and_it_starts_when_redis_comes(
    own_redis: Callable[..., RedisServer], harness_at: HarnessMaker
) -> None:
    server = own_redis()
    harness = await harness_at(server, server)
    server.kill()
    talk = Talk("c")
    async with (
        Process(environment(harness.settings(**EXACT)), "run", "--drain") as process,
        aiohttp.ClientSession() as http,
    ):
        await eventually(lambda: process.events("redis.unreachable"))
        (started,) = process.events("worker.started")
        url = f"http://127.0.0.1:{started['http_port']}"
        statuses = {}
        for path in ("livez", "readyz", "metrics"):
            async with http.get(f"{url}/{path}") as reply:
                statuses[path], text = reply.status, await reply.text()
        assert statuses == {"livez": 200, "readyz": 503, "metrics": 200}
        assert float(text.partition(f'{PREFIX}_redis_errors_total{{cause="connection"}} ')[2].splitlines()[0]) >= 1
        await harness.restarted(server)
        await harness.say(talk, 1)
        assert await process.ended() == 0
    assert_stored_once(talk, harness.blobs())


@pytest.mark.parametrize(("files", "unfinished"), [(128, 150), (80, 400)])
async def test_unfinished_requests_stop_neither_storing_nor_the_probes(
    harness: Harness, files: int, unfinished: int
) -> None:
    talk = Talk("c")
    async with Process(environment(harness.settings(**EXACT)), "run", files=files) as process:
        await process.said("ownership.changed")
        (started,) = process.events("worker.started")
        port = started["http_port"]
        writers = [(await asyncio.open_connection("127.0.0.1", port))[1] for _ in range(unfinished)]
        for writer in writers:
            writer.write(b"GET /metrics HTTP/1.1\r\n")
        await harness.say(talk, 3)
        await eventually(harness.blobs)
        async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{port}/livez") as reply:
            assert reply.status == 200
        for writer in writers:
            writer.close()
        process.signal(signal.SIGTERM)
        assert await process.ended() == 0
    assert len(process.lines) < MANY_LINES
    assert_stored_once(talk, harness.blobs())


async def test_missing_libopus_is_one_sentence(harness: Harness, tmp_path: Path) -> None:
    """The library is needed even where none can be had; a person reads what to install."""
    (tmp_path / "sitecustomize.py").write_text(
        "import ctypes.util\n"
        "from codec import libopus\n"
        "libopus.BUNDLED_PACKAGE = 'no_such_package'\n"
        "libopus.SYSTEM_NAMES = ()\n"
        "ctypes.util.find_library = lambda name: None\n"
    )
    variables = environment(harness.settings()) | {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    async with Process(variables, "run", "--drain") as process:
        assert await process.ended() in (1, 2)
    assert len(process.complaints) == 1
    assert "libopus is missing: install" in process.complaints[0]
