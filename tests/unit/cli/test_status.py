"""The status: true numbers, harmless to what it looks at, and readable by a person."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace

import pytest
from rich.console import Console
from rich.text import Text
from typer.testing import Result

from codec.entry import Chunk
from codec.libopus import library
from tests.support.command import command
from tests.support.dead_letters import DeadLetterStreams, dead_letter_streams
from tests.support.redis_server import RedisServer
from worker.batching.batch import Batch, seal_of
from worker.cli.operating.status_view import Cropped, view
from worker.cli.text import shown_bytes, shown_seconds
from worker.errors import StreamError
from worker.model.states import RedisPersistence, Trigger
from worker.operations.diagnosis import Concern, concerns
from worker.settings import Settings
from worker.spool import Summary
from worker.stream.config import recorded_layouts
from worker.stream.entries import Entries
from worker.stream.inspection.overview import Inspector, Overview, PartitionView, WorkerView
from worker.stream.inspection.strays import Stray
from worker.stream.leases import Leases, Member
from worker.stream.servers.checks import ServerState

MakeSettings = Callable[..., Settings]

MAX_AGE = 60.0


@pytest.fixture
async def streams(settings: MakeSettings) -> AsyncIterator[DeadLetterStreams]:
    async with dead_letter_streams(settings()) as found:
        yield found


def chunk(seq: int = 0) -> Chunk:
    return Chunk("u", "c", 1000.0 + seq, bytes(32000), seq=seq)


def fields(seq: int = 0) -> list[bytes | str]:
    return [part for field in chunk(seq).fields().items() for part in field]


async def busy_partition(streams: DeadLetterStreams, worker: str = "anna") -> tuple[Leases, Entries]:
    """Partition 0 with a dead letter, 2 entries in a sealed batch, 1 in an open one and 2 unread."""
    await streams.dead_letter(fields(), "poison")
    ids = [await streams.push(fields(seq)) for seq in range(5)]
    leases, entries = Leases(streams.client, streams.keys, 8, ttl=30), Entries(streams.client, streams.keys, worker)
    await leases.heartbeat(Member(worker, "r1", streams.client.now_ms()))
    (lease,), _ = await leases.acquire([0], worker)
    await entries.take_over(lease)
    await entries.accept([(lease, ids[:3])])
    batch = Batch.of(chunk())
    for seq, entry in enumerate(ids[:2]):
        batch.add(entry, chunk(seq), chunk(seq).identity(), 0)
    assert await entries.seal(lease, [seal_of(batch, Trigger.AGE, "opus", "start", "5d" * 16)]) == [None]
    return leases, entries


async def look(streams: DeadLetterStreams, partitions: int = 8) -> Overview:
    return await Inspector(streams.client, streams.keys).overview(partitions)


async def test_every_entry_is_counted_where_it_is(streams: DeadLetterStreams) -> None:
    await busy_partition(streams)

    view = (await look(streams)).partitions[0]

    assert (view.entries, view.states, view.sealed_batches) == (5, {"unread": 2, "open": 1, "sealed": 2}, 1)
    assert (view.owner, view.generation, view.dead, view.stored) == ("anna", 2, 1, 0)
    assert 0 < view.lease_left_ms <= 30_000
    assert view.oldest == (await streams.ids())[0]
    assert view.bytes > 5 * 32000


async def test_untouched_partition_is_empty_and_unowned(streams: DeadLetterStreams) -> None:
    overview = await look(streams)

    assert len(overview.unowned) == 8
    assert (overview.entries, overview.bytes, overview.oldest_age_ms, overview.workers) == (0, 0, None, ())


async def test_blobs_are_counted_beyond_the_length_of_the_event_stream(streams: DeadLetterStreams) -> None:
    for number in range(3):
        await streams.client.nodes[0].redis.xadd(
            streams.keys.done(3), {"object": "x"}, id=f"{1000 + number}-0", maxlen=2, approximate=False
        )

    view = (await look(streams)).partitions[3]

    assert (view.stored, view.last_stored_ms) == (3, 1002)


async def test_only_workers_with_a_fresh_heartbeat_are_alive(streams: DeadLetterStreams) -> None:
    leases = Leases(streams.client, streams.keys, 8, ttl=30)
    await leases.heartbeat(Member("anna", "r2", 17))
    await streams.client.nodes[0].redis.hset(streams.keys.workers, "dead", '1000 {"revision": "r1"}')
    await streams.client.nodes[0].redis.hset(streams.keys.workers, "odd", "what")

    (worker,) = (await look(streams)).workers or ()

    assert (worker.name, worker.revision, worker.started_ms) == ("anna", "r2", 17)
    assert 0 < worker.silent_in_ms <= 30_000


async def test_looking_changes_nothing(streams: DeadLetterStreams) -> None:
    await busy_partition(streams)

    async def everything() -> dict[bytes, bytes | None]:
        keys = [key async for key in streams.client.nodes[0].redis.scan_iter(f"{streams.keys.prefix}:*")]
        return {key: await streams.client.nodes[0].redis.dump(key) for key in keys}

    before = await everything()

    await look(streams)

    assert await everything() == before


async def test_seal_of_another_version_does_not_hide_the_rest(streams: DeadLetterStreams) -> None:
    await busy_partition(streams)
    await streams.client.nodes[0].redis.hset(streams.keys.ready(0), "9-9", "[not a seal]")

    view = (await look(streams)).partitions[0]

    assert (view.sealed_batches, view.sealed_entries) == (2, 2)


async def test_full_redis_can_be_looked_at(own_redis: Callable[..., RedisServer], settings: MakeSettings) -> None:
    async with dead_letter_streams(settings(redis_url=own_redis().url)) as streams:
        await streams.push(fields())
        await streams.client.nodes[0].redis.config_set("maxmemory", "1kb")

        overview = await look(streams)

        assert overview.entries == 1
        assert any("is full" in concern.text for concern in concerns(overview, MAX_AGE))


async def test_key_of_a_wrong_type_is_named_and_hides_only_its_own_partition(streams: DeadLetterStreams) -> None:
    await busy_partition(streams)
    await streams.client.nodes[0].redis.set(streams.keys.stream(3), "no stream")

    overview = await look(streams)

    assert [view.number for view in overview.partitions] == [0, 1, 2, 4, 5, 6, 7]
    assert overview.entries == 5
    (refusal,) = overview.refusals
    assert f"{streams.keys.stream(3)} is a string, where a stream belongs" in refusal
    assert f"redis-cli RENAME '{streams.keys.stream(3)}'" in refusal


async def test_recorded_number_of_partitions_wins_over_the_setting(streams: DeadLetterStreams) -> None:
    assert (await recorded_layouts(streams.client, streams.keys, 64)).total == 64

    await streams.client.nodes[0].redis.hset(streams.keys.config, "partitions", 8)

    assert (await recorded_layouts(streams.client, streams.keys, 64)).total == 8


NOW = 10_000_000
IDLE = PartitionView(0, "anna", 9000, 1, 0, 0, None, 0, 0, 0, 0, 7, 5)
WAITING = replace(IDLE, entries=3, oldest=f"{NOW - 5000}-0")
LATE = replace(IDLE, entries=3, oldest=f"{NOW - 121_000}-0", sealed_batches=2)
SERVER = ServerState("127.0.0.1:6379", "7.0.15", "master", 10, 100, "noeviction", RedisPersistence.ON, 0)
ANNA = WorkerView("anna", "r1", 0, 9000)
REFUSED = WorkerView("berta", "r1", 0, 9000, trouble="the store refuses (permission) for 31 s")
UNSURE = WorkerView("carla", "r1", 0, 9000, notice="the store refuses (network) for 3 s, and is asked again")
ROOMY = replace(SERVER, memory=600, memory_limit=1000)
GROWING = WorkerView("doris", "r1", 0, 9000, growth=1, measured=300)
SLOW = replace(LATE, oldest=f"{NOW - 95_000}-0")
STRAY = Stray("pcm:5", 1200, "1-1", "no braces")
HEALTHY = Overview(NOW, (SERVER,), (ANNA,), (IDLE, WAITING))


def test_nothing_is_said_of_a_healthy_system() -> None:
    assert concerns(HEALTHY, MAX_AGE) == []


@pytest.mark.parametrize(
    ("overview", "severity", "told"),
    [
        (replace(HEALTHY, servers=(replace(SERVER, policy="allkeys-lru"),)), "danger", "allkeys-lru"),
        (
            replace(HEALTHY, servers=(replace(SERVER, policy="volatile-ttl"),)),
            "warning",
            "volatile-ttl; set noeviction",
        ),
        (replace(HEALTHY, servers=(replace(SERVER, role="slave"),)), "warning", "primary"),
        (replace(HEALTHY, servers=(replace(SERVER, saving=RedisPersistence.FAILING),)), "danger", "disk"),
        (replace(HEALTHY, servers=(replace(SERVER, saving=RedisPersistence.OFF),)), "warning", "appendonly is off"),
        (replace(HEALTHY, servers=(replace(SERVER, memory=80),)), "warning", "80% of maxmemory"),
        (replace(HEALTHY, servers=(replace(SERVER, memory=96),)), "danger", "full (96% of maxmemory)"),
        (replace(HEALTHY, workers=()), "danger", "no worker is alive: start one; audio waits in Redis"),
        (replace(HEALTHY, workers=(REFUSED,)), "danger", "1 of 1 workers say: the store refuses"),
        (replace(HEALTHY, workers=(REFUSED,)), "danger", "for 31 s; their logs have the words of what refuses"),
        (replace(HEALTHY, workers=(UNSURE,)), "warning", "is asked again; their logs have the words of what refuses"),
        (replace(HEALTHY, workers=(ANNA, REFUSED)), "warning", "1 of 2 workers say: the store refuses"),
        (replace(HEALTHY, refusals=("Redis: WRONGTYPE",)), "danger", "can't be read: Redis: WRONGTYPE"),
        (replace(HEALTHY, workers=(), partitions=(IDLE,)), "warning", "start one; what is pushed will wait in Redis"),
        (replace(HEALTHY, workers=(UNSURE,)), "warning", "1 of 1 workers say: the store refuses (network) for 3 s"),
        (replace(HEALTHY, partitions=(SLOW,)), "warning", "waited 95 s and is not stored; sealed batches: 2"),
        (replace(HEALTHY, strays=(STRAY,)), "danger", "no worker reads the stream pcm:5 (1,200 entries): no braces"),
        (replace(HEALTHY, strays=(STRAY,)), "danger", "audio-batch-worker streams move 'pcm:5'"),
        (replace(HEALTHY, servers=(ROOMY,), workers=(GROWING,)), "warning", "is full in 7 min"),
        (replace(HEALTHY, servers=(replace(SERVER, memory=96),), workers=(GROWING,)), "danger", "is full in 1 min"),
        (replace(HEALTHY, partitions=(replace(WAITING, owner=None),)), "warning", "without an owner: 1"),
        (replace(HEALTHY, partitions=(LATE,)), "danger", "waited 121 s and is not stored; sealed batches: 2"),
        (replace(HEALTHY, partitions=(replace(IDLE, dead=4),)), "warning", "could not be processed: 4"),
    ],
)
def test_every_trouble_is_told_with_its_weight(overview: Overview, severity: str, told: str) -> None:
    (concern,) = concerns(overview, MAX_AGE)

    assert concern.severity == severity
    assert told in concern.text


@pytest.mark.parametrize(
    "overview",
    [
        replace(HEALTHY, servers=(replace(SERVER, saving=RedisPersistence.OFF, replicas=1),)),
        replace(HEALTHY, servers=(replace(SERVER, memory_limit=0),)),
        replace(HEALTHY, partitions=(replace(IDLE, owner=None), WAITING)),
        replace(HEALTHY, workers=(GROWING,)),
        replace(HEALTHY, servers=(replace(SERVER, memory=60),), workers=(replace(GROWING, growth=-5),)),
    ],
    ids=[
        "replicas keep the data",
        "no limit",
        "an empty partition needs no owner",
        "much memory is left",
        "it shrinks",
    ],
)
def test_what_is_no_trouble_is_not_told(overview: Overview) -> None:
    assert concerns(overview, MAX_AGE) == []


def test_a_list_of_workers_that_cant_be_read_does_not_mean_that_none_is_alive() -> None:
    (concern,) = concerns(replace(HEALTHY, workers=None, refusals=("Redis: pcm:workers is a stream",)), MAX_AGE)
    assert concern == Concern("danger", "can't be read: Redis: pcm:workers is a stream")


@pytest.mark.parametrize(("age", "told"), [(119, False), (121, True)])
def test_blobs_that_pile_up_in_the_spool_are_told(age: int, told: bool) -> None:
    found = concerns(HEALTHY, MAX_AGE, Summary({"spooled": 2, "uploading": 1, "done": 7}, 5, NOW - age * 1000))
    assert bool(found) == told
    for concern in found:
        assert concern.severity == "warning"
        assert concern.text.startswith(f"3 blobs wait in the spool, with audio of {age} s ago")


@pytest.mark.parametrize(
    ("overview", "told"),
    [
        (replace(HEALTHY, servers=(replace(SERVER, memory_limit=0),)), "can't be told: it has no maxmemory"),
        (HEALTHY, "can't be told: no worker has measured its memory for a minute yet"),
        (replace(HEALTHY, workers=(replace(GROWING, growth=0),)), "has not grown over the last 5 min 00 s"),
        (
            replace(HEALTHY, workers=(ANNA, GROWING)),
            "full in 1 min 30 s if it grows on by 60 B a minute over",
        ),
    ],
)
def test_how_long_redis_lasts_is_told_or_why_not(overview: Overview, told: str) -> None:
    with (console := Console(width=500)).capture() as shown:
        console.print(view(overview, [], "libopus 1.4", everything=True))
    (line,) = [line for line in shown.get().splitlines() if line.startswith("Redis lasts")]
    assert told in line


@pytest.mark.parametrize("columns", ["40", "80", "120"])
def test_names_are_never_folded(settings: MakeSettings, columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, made = f"audio-batch-worker-{'7d9c6bf5b4' * 6}-x2x4q", settings()

    async def prepare() -> None:
        async with dead_letter_streams(made) as streams:
            await busy_partition(streams, name)

    asyncio.run(prepare())
    monkeypatch.setattr("tests.support.command.COLUMNS", columns)
    assert command(made, "status").stdout.count(name) == 2  # the worker's row, the partition's row


def test_a_narrow_screen_shows_names_whole_and_crops_the_rest() -> None:
    console = Console(width=30)
    with console.capture() as shown:
        console.print(Cropped(Text(f"{'n' * 25} {'x' * 50}")))
    assert shown.get().splitlines() == [f"{'n' * 25} xxxx"]


def test_the_worst_comes_first() -> None:
    unsaved = replace(SERVER, saving=RedisPersistence.OFF)
    troubled = replace(HEALTHY, servers=(unsaved,), partitions=(replace(LATE, dead=1),))

    assert [concern.severity for concern in concerns(troubled, MAX_AGE)] == ["danger", "warning", "warning"]


@pytest.fixture
def busy(settings: MakeSettings) -> Settings:
    """Settings of a prefix with one busy partition of eight."""
    made = settings()

    async def prepare() -> None:
        async with dead_letter_streams(made) as streams:
            await busy_partition(streams, "worker-[1]")

    asyncio.run(prepare())
    return made


def test_page_begins_with_what_matters(busy: Settings) -> None:
    result = command(busy, "status")

    assert result.exit_code == 0
    assert result.stdout.startswith(("danger:", "warning:"))
    for told in ("entries 5, memory", "unread 2, open 1, sealed 2 (batches: 1)", "owned 1"):
        assert told in result.stdout
    assert library().version in result.stdout
    for remaining in ("expires in", "lease left"):  # a bare "heartbeat 14.3 s" would look like a silent worker
        assert remaining in result.stdout


def test_check_tells_only_the_verdict_and_has_its_own_exit_codes(
    own_redis: Callable[..., RedisServer], settings: MakeSettings
) -> None:
    server = own_redis(appendonly="yes")
    made = settings(redis_url=server.url)
    with server.client() as client:
        seconds = int(client.time()[0])
        client.hset(f"{made.stream_prefix}:workers", "anna", f"{seconds + 60}000 {{}}")

        assert_verdict(command(made, "status", "--check"), 0, "audio is safe and flows")
        client.hset(
            f"{made.stream_prefix}:workers", "anna", f'{seconds + 60}000 {{"notice": "the store refuses (network)"}}'
        )
        assert_verdict(
            command(made, "status", "--check"), 3, "warning: 1 of 1 workers say: the store refuses (network)"
        )
        client.xadd(f"{made.stream_prefix}:5", {"uid": "u", "conversation_id": "c", "pcm": "x"})
        assert_verdict(command(made, "status", "--check"), 4, "danger: no worker reads the stream")
        assert json.loads(command(made, "status", "--check", "--json").stdout)["strays"][0]["entries"] == 1
        assert command(made, "status").exit_code == 0
    server.kill()
    unreachable = command(made, "status", "--check")
    assert isinstance(unreachable.exception, StreamError)  # main() makes it exit code 1
    assert command(made, "status", "--check", "--watch").exit_code == 2


def assert_verdict(result: Result, code: int, first_line: str) -> None:
    assert result.exit_code == code, result.stdout
    assert result.stdout.startswith(first_line)
    assert "Redis lasts" not in result.stdout


def test_idle_partitions_are_shown_on_demand(busy: Settings) -> None:
    brief, full = command(busy, "status").stdout, command(busy, "status", "--all").stdout

    assert "7 of 8 partitions hold nothing" in brief
    assert brief.count("none") == 0
    assert full.count("none") == 7


def test_json_has_all_that_the_page_tells_and_more(busy: Settings) -> None:
    facts = json.loads(command(busy, "status", "--json").stdout)

    assert facts["totals"] | {"bytes": 0, "oldest_age_ms": 0} == {
        "entries": 5,
        "states": {"unread": 2, "open": 1, "sealed": 2},
        "sealed_batches": 1,
        "bytes": 0,
        "oldest_age_ms": 0,
        "dead": 1,
        "lost": 0,
        "stored": 0,
        "unowned": 7,
        "full_in_s": None,
    }
    assert (facts["partitions"][0]["owner"], facts["workers"][0]["name"]) == ("worker-[1]", "worker-[1]")
    assert {concern["severity"] for concern in facts["concerns"]} <= {"danger", "warning"}
    assert facts["libopus"] == library().version


@pytest.fixture
def watching(busy: Settings) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """`status --watch` on a terminal of its own: the process and the terminal's other end."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"REDIS_URL": busy.redis_url, "STREAM_PREFIX": busy.stream_prefix, "PARTITIONS": "8"}
    environment |= {"TERM": "xterm", "COLUMNS": "120", "LINES": "50"}
    program = "import sys; from worker.cli import main; sys.argv = sys.argv[1:]; main()"
    arguments = [sys.executable, "-c", program, "audio-batch-worker", "status", "--watch", "--interval", "0.2"]
    with subprocess.Popen(arguments, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        yield process, ours
        process.kill()
    os.close(ours)


@pytest.fixture
def piped(busy: Settings) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start `status --watch` with its output in a pipe."""
    environment = os.environ | {"REDIS_URL": busy.redis_url, "STREAM_PREFIX": busy.stream_prefix, "PARTITIONS": "8"}
    started: list[subprocess.Popen[bytes]] = []

    def start(*more: str) -> subprocess.Popen[bytes]:
        arguments = [sys.executable, "-m", "worker", "status", "--watch", "--interval", "0.2", *more]
        started.append(subprocess.Popen(arguments, stdout=subprocess.PIPE, env=environment))
        return started[-1]

    yield start
    for process in started:
        with process:
            process.kill()


def test_names_of_workers_are_shown_letter_by_letter() -> None:
    name = "a:bell:[red]\x1b[2J"
    overview = replace(HEALTHY, workers=(WorkerView(name, name, 0, 9000),), partitions=(replace(IDLE, owner=name),))
    console = Console(width=200)

    with console.capture() as shown:
        console.print(view(overview, [], "libopus 1.4", everything=True))

    assert shown.get().count(r"a:bell:[red]\x1b[2J") == 3


@pytest.mark.slow
def test_watch_as_json_gives_a_document_per_line(piped: Callable[..., subprocess.Popen[bytes]]) -> None:
    process = piped("--json")
    assert process.stdout is not None
    looks = [json.loads(process.stdout.readline()) for _ in range(2)]
    assert [look["totals"]["entries"] for look in looks] == [5, 5]
    assert looks[0]["now_ms"] < looks[1]["now_ms"]


@pytest.mark.slow
def test_watch_into_a_pipe_shows_one_look_below_the_other(piped: Callable[..., subprocess.Popen[bytes]]) -> None:
    process = piped()
    assert process.stdout is not None
    seen = 0
    while seen < 2:
        line = process.stdout.readline()
        assert line
        assert b"\x1b" not in line
        seen += b"entries 5" in line


def read_until(terminal: int, text: bytes) -> None:
    seen = b""
    while text not in seen:
        seen += os.read(terminal, 65536)


@pytest.mark.slow
def test_watch_follows_until_it_is_interrupted(
    busy: Settings, redis_server: RedisServer, watching: tuple[subprocess.Popen[bytes], int]
) -> None:
    process, terminal = watching
    read_until(terminal, b"entries 5")
    with redis_server.client() as client:
        client.xadd(f"{busy.stream_prefix}:{{1}}", {"uid": "u"})
    read_until(terminal, b"entries 6")

    process.send_signal(signal.SIGINT)

    assert process.wait(20) == 0


@pytest.mark.parametrize(
    ("size", "shown"), [(0, "0 B"), (999, "999 B"), (1700, "1.7 kB"), (160_000, "160 kB"), (2.5e12, "2.5 TB")]
)
def test_sizes_are_short(size: float, shown: str) -> None:
    assert shown_bytes(size) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0.0 s"),
        (59.4, "59.4 s"),
        (59.96, "1 min 00 s"),
        (245, "4 min 05 s"),
        (7800, "2 h 10 min"),
        (273_600, "3 d 4 h"),
    ],
)
def test_durations_are_short(seconds: float, shown: str) -> None:
    assert shown_seconds(seconds) == shown
