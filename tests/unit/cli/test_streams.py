"""`streams`: names what no worker reads and why, moves it, and says what stays and why."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator

import pytest
import redis

from codec.entry import Chunk
from tests.support.command import command
from tests.support.redis_server import RedisServer
from tests.tools.readme import CHART
from worker.settings import Settings

ODD = {"no": "chunk"}


@pytest.fixture
def server(own_redis: Callable[..., RedisServer]) -> RedisServer:
    return own_redis()


@pytest.fixture
def here(server: RedisServer, settings: Callable[..., Settings]) -> Settings:
    return settings(redis_url=server.url, stream_prefix="pcm", partitions=8)


@pytest.fixture
def raw(server: RedisServer) -> Iterator[redis.Redis]:
    with server.client() as client:
        yield client


def push(raw: redis.Redis, key: str, count: int = 1) -> None:
    for seq in range(count):
        raw.xadd(key, Chunk("u", "c", 1000.0 + seq, bytes(320), seq=seq).fields())  # type: ignore[arg-type]


def test_all_is_read(here: Settings) -> None:
    result = command(here, "streams", "ls")
    assert (result.exit_code, result.stdout) == (0, "workers read every stream that has audio\n")


def test_each_stream_is_named_whole_with_its_reason(here: Settings, raw: redis.Redis) -> None:
    long = f"pmc-{'x' * 200}:{{3}}"
    for key in ("pcm:5", "pcm:{8}", long):
        push(raw, key, 3)
    result = command(here, "streams", "ls")
    assert result.exit_code == 3
    lines = {line.split()[0]: line for line in result.stdout.splitlines()[1:]}
    assert "are named as pcm:{0}, braces included" in lines["pcm:5"]
    assert "PARTITIONS is 8, so the last stream is pcm:{7}" in lines["pcm:{8}"]
    assert "the workers' STREAM_PREFIX is pcm, not pmc-" in lines[long]
    assert {one["key"]: one["entries"] for one in json.loads(command(here, "streams", "ls", "--json").stdout)} == {
        "pcm:5": 3,
        "pcm:{8}": 3,
        long: 3,
    }


def test_a_dry_run_changes_nothing_and_tells_the_same(here: Settings, raw: redis.Redis) -> None:
    push(raw, "pcm:5", 3)
    dry = command(here, "streams", "move", "pcm:5", "--dry-run")
    assert raw.xlen("pcm:5") == 3
    real = command(here, "streams", "move", "pcm:5")
    assert dry.stdout == real.stdout.replace("moved", "would be moved")
    assert "pcm:5: moved 3 to pcm:{" in real.stdout
    assert (dry.exit_code, real.exit_code, raw.exists("pcm:5")) == (0, 0, 0)


def test_what_stays_is_named_with_its_reason(here: Settings, raw: redis.Redis) -> None:
    push(raw, "pcm:5")
    entry = raw.xadd("pcm:5", ODD).decode()  # type: ignore[union-attr, arg-type]
    result = command(here, "streams", "move", "--all")
    assert result.exit_code == 3
    assert f"pcm:5 {entry} stays: it is neither a chunk nor an end" in result.stderr
    assert "1 stream, entries moved: 1, left: 1" in result.stdout
    assert raw.xlen("pcm:5") == 1


def test_a_stream_that_redis_refuses_is_named_and_the_others_move(
    here: Settings, raw: redis.Redis, server: RedisServer
) -> None:
    rules = dict(
        re.findall(r"^ACL SETUSER (\w+) on >PASSWORD (.+)$", (CHART / "SECURITY.md").read_text(), re.MULTILINE)
    )
    groups = re.findall(r"\([^)]*\)|\S+", rules["operator"])
    raw.execute_command("ACL", "SETUSER", "few", "on", ">word", *groups)  # type: ignore[no-untyped-call]
    for key in ("oth:{3}", "pcm:5", "pcm:{8}"):  # the one that this user may not change is the oldest
        push(raw, key, 3)
    few = here.model_copy(update={"redis_url": server.url.replace("//", "//few:word@")})

    moved = command(few, "streams", "move", "--all")

    assert moved.exit_code == 3
    assert "oth:{3} can't be moved: Redis: NoPermissionError" in moved.stderr
    assert "3 streams, entries moved: 6, left: 0, streams that Redis refuses: 1" in moved.stdout
    assert (raw.xlen("oth:{3}"), raw.exists("pcm:5", "pcm:{8}")) == (3, 0)
    again = json.loads(command(few, "streams", "move", "--all", "--json").stdout)["streams"]
    assert [(one["stream"], one["moved"], "NoPermission" in one["refused"]) for one in again] == [("oth:{3}", 0, True)]


def test_a_stream_whose_name_has_no_number_moves_only_by_name(here: Settings, raw: redis.Redis) -> None:
    push(raw, "voice", 3)
    assert "0 streams, entries moved: 0" in command(here, "streams", "move", "--all").stdout
    assert "voice: moved 3 to pcm:{" in command(here, "streams", "move", "voice").stdout
    assert raw.exists("voice") == 0
    gone = command(here, "streams", "move", "voice")
    assert (gone.exit_code, "no stray stream has the name voice" in gone.stderr) == (2, True)


def test_a_stream_of_a_declared_prefix_moves_only_by_name(here: Settings, raw: redis.Redis) -> None:
    push(raw, "pcm2:{3}")
    raw.hset("pcm2:config", "partitions", 64)
    assert "0 streams, entries moved: 0" in command(here, "streams", "move", "--all").stdout
    assert raw.xlen("pcm2:{3}") == 1
    assert command(here, "streams", "move", "pcm2:{3}").exit_code == 0
    assert raw.exists("pcm2:{3}") == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "say which"),
        (("pcm:{3}",), "no stray stream has the name pcm:{3}"),
        (("nowhere",), "see audio-batch-worker"),
    ],
)
def test_only_stray_streams_can_be_moved(
    here: Settings, raw: redis.Redis, arguments: tuple[str, ...], told: str
) -> None:
    push(raw, "pcm:{3}")
    result = command(here, "streams", "move", *arguments)
    assert result.exit_code == 2
    assert told in " ".join(result.stderr.replace("│", " ").split())
    assert raw.xlen("pcm:{3}") == 1
