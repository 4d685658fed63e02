"""What a run at debug level says, shows and dumps holds no secret, no key and no audio, whatever goes wrong."""

from __future__ import annotations

import base64
import json
import os
import signal
from collections.abc import Iterable, Iterator

import aiohttp
import pytest

from codec.crypto import derive_key
from codec.entry import Chunk
from tests.support.harness import Harness, eventually
from tests.support.oracle import T0
from tests.support.process import Process, environment
from tests.support.secret import TEST_SECRET

OLD_SECRET = "a former secret of thirty-two bytes or more"
PASSWORD = "a-password-that-no-server-asks-for"
USERS = ("alice", "bob")
FRAGMENT = 12
"""Bytes of audio, six samples, of which no form may appear anywhere."""

PCM = b"".join(bytes([number % 251, 33 + number % 90]) for number in range(0, 8000, 7))
TEXT_LIKE = b"these bytes are audio that happens to look like plain text "


def forms(data: bytes) -> set[str]:
    """How bytes may be written in a text: raw, escaped, as numbers, hexadecimal, base64 at any alignment."""
    base64s = {base64.b64encode(data[skip:])[2:-4].decode() for skip in range(3)}
    escaped = ascii(data)[2:-1]
    return {
        data.decode("latin-1"),
        data.decode(errors="replace"),
        escaped,
        json.dumps(escaped)[1:-1],
        ", ".join(map(str, data)),
        data.hex(),
        data.hex(" "),
        *base64s,
        *(text.translate(str.maketrans("+/", "-_")) for text in base64s),
    }


def fragments(pcm: bytes) -> Iterator[bytes]:
    for start in range(0, len(pcm) - FRAGMENT, FRAGMENT // 2):
        yield pcm[start : start + FRAGMENT]


def forbidden() -> set[str]:
    keys = [derive_key(secret, user) for secret in (TEST_SECRET, OLD_SECRET) for user in USERS]
    secrets = [*keys, *(text.encode() for text in (TEST_SECRET, OLD_SECRET, PASSWORD))]
    return {form for data in (*secrets, *fragments(PCM), *fragments(TEXT_LIKE)) for form in forms(data)}


def found(texts: Iterable[str]) -> list[str]:
    shown = "\n".join(texts)
    return [form for form in forbidden() if form in shown]


@pytest.mark.parametrize("text", [PCM.hex(), base64.b64encode(PCM).decode(), repr(PCM), TEST_SECRET, str(list(PCM))])
def test_search_finds_what_must_not_be_seen(text: str) -> None:
    assert found(["x", f"error: {text} y"])


def hostile() -> list[dict[str, bytes]]:
    """Audio in every place where it does not belong; as an id, text would be taken for one."""
    good = {"uid": b"alice", "conversation_id": b"c", "timestamp": b"1700000000", "pcm": PCM}
    misplaced = ("timestamp", "sample_rate", "protection", "seq", "end", TEXT_LIKE.decode())
    wrong = [{name: audio} for name in misplaced for audio in (PCM, TEXT_LIKE)]
    return [good | change for change in [*wrong, {"uid": PCM}, {"conversation_id": PCM}]]


async def pages(port: int) -> list[str]:
    """What the three endpoints and an unknown one say."""
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        return [await (await session.get(path)).text() for path in ("/metrics", "/livez", "/readyz", "/secrets")]


async def test_debug_run_full_of_trouble_gives_nothing_away(harness: Harness) -> None:
    """Bad entries, refusals of the store, a seal that is none, and in the end a crash with its dump."""
    name = next(name for name in map(str, range(100)) if harness.partition(name) == 0)
    await harness.redis.hset(harness.keys.ready(1), "1-1", PCM)
    harness.server.fail("insert.*", status=403, times=1, message="no right")
    harness.server.fail("insert.*", "garbage", times=1)
    url = harness.settings().redis_url.replace("redis://", f"redis://default:{PASSWORD}@")
    settings = harness.settings(
        encryption_secrets_old=OLD_SECRET, log_level="debug", batch_max_seconds=0.05, redis_url=url
    )
    variables = environment(settings) | {"PYTHONFAULTHANDLER": "1", "PYTHONASYNCIODEBUG": "1"}
    async with Process(variables, "run") as process:
        await process.said("worker.started")
        for fields in hostile():
            await harness.redis.xadd(harness.keys.stream(0), dict(fields))
        for user in USERS:
            await harness.push(Chunk(user, name, T0, PCM))
        await process.said("entries.dead_lettered")
        await process.said("partition.refused")
        await eventually(lambda: len(harness.blobs()) == len(USERS))
        seen = await pages(process.events("worker.started")[0]["http_port"])
        process.signal(signal.SIGABRT)
        assert await process.ended() == -signal.SIGABRT
    assert any("Fatal Python error" in line for line in process.lines)
    assert found([*process.lines, *seen]) == []
    assert len(await harness.dead()) == len(hostile())
    assert all(len(letter[b"reason"]) <= 200 for letter in await harness.dead())


def test_environment_of_the_test_holds_no_secret_of_its_own() -> None:
    assert found(os.environ.values()) == []
