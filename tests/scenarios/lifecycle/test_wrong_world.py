"""What surrounds the worker is wrong: each trouble shows as one event and one metric, and heals without a restart."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import stamina.instrumentation
from structlog.testing import capture_logs

from codec.blob import decode
from codec.crypto import key_id
from codec.errors import BadBlob
from tests.support.certificates import self_signed
from tests.support.harness import EXACT, Harness, Running, eventually
from tests.support.oracle import Talk, assert_stored_once
from tests.support.paths import ROOT
from tests.support.secret import TEST_SECRET
from worker import app
from worker.errors import SettingsError
from worker.runtime.metrics import PREFIX, Metrics
from worker.runtime.timing import Backoff, ReadingTiming, StoreTiming, Timing
from worker.settings import Settings
from worker.stores import open_store

Events = list[MutableMapping[str, Any]]

TROUBLES = ROOT / "deploy" / "helm" / "TROUBLES.md"
HOUR = 3600.0
WALL_CLOCK = re.compile(r"\btime\.time(_ns)?\(|\bdatetime\.(now|utcnow|today)\(|\bdate\.today\(")
PEOPLES_TIME = {"worker/cli/push.py", "worker/demo/play.py", "worker/runtime/spans.py"}
"""They give recordings a timestamp, as pushers do, and spans, as OpenTelemetry wants it."""

OLD, NEW = "an old secret of thirty-two bytes or more", "a new secret of thirty-two bytes or more"


@pytest.fixture
def timing() -> Timing:
    return Timing(reading=ReadingTiming(poll=0.05, rest=0.05), store=StoreTiming(retry=Backoff(0.01, 30.0)))


@pytest.fixture(autouse=True)
def _silent_retries() -> Iterator[None]:
    stamina.instrumentation.set_on_retry_hooks([])  # as the worker's process does
    yield
    stamina.instrumentation.set_on_retry_hooks(None)


def causes(events: Events, name: str) -> set[str]:
    return {event["cause"] for event in events if event["event"] == name}


def warnings(events: Events) -> set[str]:
    return {event["event"] for event in events if event["log_level"] in ("warning", "error")}


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        ({"status": 404, "message": "The specified bucket does not exist."}, "missing-bucket"),
        ({"status": 403, "reason": "forbidden"}, "permission"),
        ({"status": 401, "reason": "required"}, "permission"),
        ({"status": 429, "reason": "rateLimitExceeded"}, "throttled"),
        ({"status": 403, "reason": "userRateLimitExceeded"}, "throttled"),
        ({"status": 503}, "server"),
        ({"action": "corrupt"}, "corrupt"),
        ({"action": "keep_other_bytes"}, "corrupt"),
        ({"action": "reset"}, "network"),
        ({"action": "garbage"}, "unexpected"),
        ({"action": "other_json", "body": {}}, "unexpected"),
        ({"action": "answer", "status": 302, "headers": {"Location": "/storage/v1/b/test-bucket/o"}}, "unexpected"),
        ({"action": "answer", "status": 308, "body": {"kind": "storage#object"}}, "unexpected"),
    ],
    ids=str,
)
async def test_store_that_refuses_is_asked_again_and_named_by_cause(
    harness: Harness, fault: dict[str, Any], cause: str
) -> None:
    talk = Talk("c")
    harness.server.fail("insert.*", times=2, **fault)
    await harness.say(talk, 3)
    with capture_logs() as events:
        running = await harness.drain(**EXACT)
    assert running.count("store_retries_total", cause=cause) == 2
    assert causes(events, "store.refused") == {cause}
    assert warnings(events) == {"store.refused"}
    assert len(harness.blobs()) == 1
    assert_stored_once(talk, harness.blobs())


async def test_throttling_store_is_left_alone_for_as_long_as_it_asks(harness: Harness) -> None:
    harness.server.fail("insert.*", status=429, retry_after=1)
    harness.timing = replace(harness.timing, store=StoreTiming(retry=Backoff(0.01, 0.02)))
    await harness.say(Talk("c"), 3)
    running = await harness.drain(**EXACT)
    took = running.metrics.registry.get_sample_value(f"{PREFIX}_stage_seconds_sum", {"stage": "upload"})
    assert took is not None
    assert took >= 1.0
    assert harness.server.count("insert.*") == 2


def refused(running: Running) -> bool:
    return running.count("store_retries_total", cause="network") >= 2


async def test_name_of_the_store_that_does_not_resolve(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as DNS is down, audio waits in Redis."""
    talk = Talk("c")
    loop, down = asyncio.get_running_loop(), asyncio.Event()
    resolve = loop.getaddrinfo

    async def getaddrinfo(*args: Any, **options: Any) -> Any:  # noqa: ANN401 -- the loop's own signature is long
        if not down.is_set():
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return await resolve(*args, **options)

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
    address = harness.server.url.replace("127.0.0.1", "localhost")
    with capture_logs() as events:
        async with harness.worker(**EXACT, storage_emulator_host=address) as running:
            await harness.say(talk, 3)
            await eventually(lambda: refused(running))
            assert await harness.entries() == len(talk.chunks)
            down.set()
            await eventually(lambda: running.count("batches_total", trigger="audio") == 1)
    assert causes(events, "store.refused") == {"network"}
    assert_stored_once(talk, harness.blobs())


@pytest.fixture
async def impostor(tmp_path: Path) -> AsyncIterator[int]:
    """A port of this machine behind which somebody speaks TLS, with a certificate that nobody has signed."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(self_signed("localhost", tmp_path))
    listener = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    async with listener:
        yield listener.sockets[0].getsockname()[1]


async def test_store_without_a_certificate_that_counts_gets_no_audio(harness: Harness, impostor: int) -> None:
    talk = Talk("c")
    host = f"https://localhost:{impostor}"
    with capture_logs() as events:
        async with harness.worker(**EXACT, storage_emulator_host=host, shutdown_grace=2.1) as running:
            await harness.say(talk, 3)
            await eventually(lambda: refused(running))
    assert causes(events, "store.refused") == {"network"}
    assert all("CERTIFICATE_VERIFY_FAILED" in event["error"] for event in events if event["event"] == "store.refused")
    assert harness.blobs() == []
    await harness.drain(**EXACT)
    assert_stored_once(talk, harness.blobs())


@pytest.mark.parametrize("url", ["redis://no-such-host.invalid:{port}/0", "rediss://localhost:{port}/0"])
async def test_redis_that_does_not_resolve_or_has_no_certificate_that_counts(
    harness: Harness, impostor: int, url: str
) -> None:
    with capture_logs() as events:
        async with harness.worker(redis_url=url.format(port=impostor), lease_ttl=1.0) as running:
            await eventually(lambda: running.count("redis_errors_total", cause="connection") >= 1)
            await eventually(running.health.ready)
    assert "Redis does not answer" in list(running.health.ready())
    assert warnings(events) <= {"ownership.redis_failed", "consumer.redis_failed", "worker.flush_failed"}
    expected = "CERTIFICATE_VERIFY_FAILED" if url.startswith("rediss") else "no-such-host.invalid"
    assert any(expected in event["error"] for event in events if event["event"] == "ownership.redis_failed")


async def test_store_that_is_away_at_the_start_is_counted_and_named_like_later(
    settings: Callable[..., Settings], timing: Timing, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = Metrics()
    monkeypatch.setattr(app, "Metrics", lambda: metrics)
    away = {"store_url": "gs://test-bucket", "storage_emulator_host": "http://no-such-host.invalid"}
    with capture_logs() as events:
        await app.run(settings(**away), drain=True, timing=timing)
    assert causes(events, "store.refused") == {"network"}
    assert [event["key_id"] for event in events if event["event"] == "worker.started"] == [key_id(TEST_SECRET)]
    assert metrics.registry.get_sample_value(f"{PREFIX}_store_retries_total", {"cause": "network"})


def of_the_store(harness: Harness, directory: Path) -> Settings:
    directory.mkdir(exist_ok=True)
    return harness.settings(**EXACT, store_url=directory.as_uri())


def replace_by_an_empty_one(directory: Path) -> Path:
    """What a missing mount looks like; returns where the former directory is."""
    volume = directory.rename(directory.with_name("volume"))
    directory.mkdir()
    return volume


async def test_volume_of_the_store_that_goes_and_comes_back(harness: Harness, tmp_path: Path) -> None:
    """Nothing is written below the mount point, and Redis holds the audio."""
    talk, root = Talk("c"), tmp_path / "recordings"
    settings = of_the_store(harness, root)
    with capture_logs() as events:
        async with harness.worker(**EXACT, store_url=settings.store_url) as running:
            await harness.say(talk, 3)
            await eventually(lambda: running.count("batches_total", trigger="audio") == 1)
            volume = replace_by_an_empty_one(root)
            pushed = await harness.say(talk, 3)
            await eventually(lambda: running.count("store_retries_total", cause="unmounted") >= 2)
            assert await harness.entries() == len(pushed)
            root.rmdir()
            volume.rename(root)
            await eventually(lambda: running.count("batches_total", trigger="audio") == 2)
    assert causes(events, "store.refused") == {"unmounted"}
    store, heard = open_store(settings.store_url), b""
    async for info in store.list("chunks/"):
        heard += decode(await store.read(info.name), info.name, info.metadata, secrets=[TEST_SECRET]).pcm
    assert heard == talk.pcm


async def test_worker_does_not_start_on_another_directory_than_the_recorded_one(
    harness: Harness, tmp_path: Path
) -> None:
    settings = of_the_store(harness, tmp_path / "recordings")
    await app.run(settings, drain=True, timing=harness.timing)
    replace_by_an_empty_one(tmp_path / "recordings")
    with pytest.raises(SettingsError, match=r"STORE_URL .* may not be mounted.*redis-cli HDEL") as refusal:
        await app.run(settings, drain=True, timing=harness.timing)
    await harness.redis.execute_command(*str(refusal.value).partition("redis-cli ")[2].split())
    await app.run(settings, drain=True, timing=harness.timing)


async def test_store_from_before_there_were_ids_is_recorded_without_complaint(harness: Harness, tmp_path: Path) -> None:
    settings = of_the_store(harness, tmp_path / "recordings")
    store = open_store(settings.store_url)
    await store.create("chunks/u/c/1.000.bin", b"years old", {})
    (tmp_path / "recordings/.metadata/.store").unlink()
    await app.run(settings, drain=True, timing=harness.timing)
    assert await open_store(settings.store_url).identity()
    await app.run(settings, drain=True, timing=harness.timing)


async def test_bucket_has_no_id_and_none_is_recorded(harness: Harness) -> None:
    for _ in range(2):
        await app.run(harness.settings(), drain=True, timing=harness.timing)
    assert set(await harness.redis.hgetall(harness.keys.config)) == {b"partitions", b"contract", b"layouts"}


async def test_secret_is_rotated_while_audio_flows(harness: Harness) -> None:
    """New blobs are under the new secret; the old one, kept beside it, still opens the old blobs."""
    talk = Talk("c")
    await harness.say(talk, 3)
    await harness.drain(**EXACT, encryption_secret=OLD)
    await harness.say(talk, 3)
    await harness.drain(**EXACT, encryption_secret=NEW, encryption_secrets_old=OLD)
    both = harness.settings(encryption_secret=NEW, encryption_secrets_old=OLD).secrets
    before, after = sorted(harness.blobs(), key=lambda blob: blob.name)
    heard = [decode(blob.data, blob.name, blob.metadata, secrets=both).pcm for blob in (before, after)]
    assert b"".join(heard) == talk.pcm
    assert [before.metadata["key-id"], after.metadata["key-id"]] == [key_id(OLD), key_id(NEW)]
    with pytest.raises(BadBlob):
        decode(before.data, before.name, before.metadata, secrets=[NEW])
    with pytest.raises(BadBlob):
        decode(after.data, after.name, after.metadata, secrets=[OLD])


async def test_pods_clocks_that_are_an_hour_off_either_way_change_nothing(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers, an hour slow and an hour fast, one after the other; batches close by age as always."""
    talk, real = Talk("c"), time.time
    for hour in (-HOUR, HOUR):
        monkeypatch.setattr(time, "time", partial(_off, real, hour))
        async with harness.worker(**EXACT, batch_max_age=0.5) as running:
            await harness.say(talk, 1)
            await eventually(partial(running.count, "batches_total", trigger="age"))
            assert running.count("closed_to_done_seconds_sum") < 5
    assert_stored_once(talk, harness.blobs())
    assert len(harness.blobs()) == 2


def _off(real: Callable[[], float], seconds: float) -> float:
    return real() + seconds


def test_nothing_in_the_worker_asks_the_wall_clock() -> None:
    sources = [path for package in ("worker", "codec") for path in (ROOT / package).rglob("*.py")]
    asking = {str(path.relative_to(ROOT)) for path in sources if WALL_CLOCK.search(path.read_text())}
    assert asking == PEOPLES_TIME


def test_documented_events_and_metrics_of_each_trouble_exist() -> None:
    table = re.findall(r"^\| [^|]+ \| `([a-z_.]+)`[^|]* \| `([a-z_]+)[^|]* \|$", TROUBLES.read_text(), re.MULTILINE)
    sources = "".join(path.read_text() for path in (ROOT / "worker").rglob("*.py"))
    families = Metrics().registry.collect()
    metrics = {f"{family.name}_total" if family.type == "counter" else family.name for family in families}
    assert len(table) > 12
    assert [event for event, _ in table if f'"{event}"' not in sources] == []
    assert {metric for _, metric in table} - metrics == set()
