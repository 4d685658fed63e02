"""The AsyncAPI document is made from the code, and describes what is really pushed and announced."""

from __future__ import annotations

import wave
from typing import TYPE_CHECKING

import pytest
from faststream.specification.asyncapi.v3_0_0.schema import ApplicationSchema

from codec.entry import PROTECTIONS, SAMPLE_RATES, Chunk, End, parse
from codec.errors import BadEntry
from tests.support.contract import faults, faults_of_all
from tests.support.oracle import Talk
from tests.support.process import environment, outcome
from tests.tools.contract import DOCUMENT, document, written
from worker.model.done_event import DoneEvent
from worker.producer import Producer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.support.harness import Harness

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CHUNK = {b"uid": b"alice", b"conversation_id": b"lunch", b"timestamp": b"1700000000.25", b"pcm": b"1234"}
END = {b"uid": b"alice", b"conversation_id": b"lunch", b"end": b"1"}
VALUES: Mapping[bytes, list[bytes]] = {
    b"uid": [b"", b".", b"..", b"...", b"a/b", b"a\\b", b"a\nb", "é".encode(), b"\x7f", b"a" * 256, b"a" * 257],
    b"timestamp": [b"", b"0", b"1.5", b"-1", b"1e9", b" 1", b"1.", b".5", b"1700000000000", b"1.1234567890", b"nan"],
    b"pcm": [b"", b"12", b"1234567"],
    b"sample_rate": [b"", b"16000.0", b"44100", *(str(rate).encode() for rate in SAMPLE_RATES)],
    b"protection": [b"", b"none", b"Standard", *(protection.encode() for protection in PROTECTIONS)],
    b"session": [b"", b"a", b"x" * 64, b"x" * 65],
    b"seq": [b"", b"0", b"00", b"-1", b"1.0", b"9" * 15, b"1" * 16],
    b"end": [b"", b"0", b"1", b"true"],
    b"x-own": [b"", b"1"],
    b"x-": [b"1"],
    b"x-a b": [b"1"],
    b"x-" + b"a" * 62: [b"1"],
    b"x-" + b"a" * 63: [b"1"],
    b"X-own": [b"1"],
    b"traceparent": [PARENT.encode()],
    b"other": [b"1"],
}


def is_taken(fields: Mapping[bytes, bytes]) -> bool:
    try:
        parse(fields)
    except BadEntry:
        return False
    return True


def test_the_document_follows_the_code() -> None:
    assert DOCUMENT.read_text() == written(), "run `make contract`"


def test_the_document_is_asyncapi() -> None:
    read = ApplicationSchema.model_validate(document())
    assert (read.asyncapi, set(read.channels), set(read.operations)) == (
        "3.0.0",
        {"audio", "done"},
        {"receiveAudio", "announceBlob"},
    )


@pytest.mark.parametrize("entry", [CHUNK, END], ids=["chunk", "end"])
def test_the_schemas_allow_what_workers_take_and_nothing_else(entry: Mapping[bytes, bytes]) -> None:
    changed = [dict(entry) | {name: value} for name, values in VALUES.items() for value in values]
    lacking = [{name: value for name, value in entry.items() if name != left_out} for left_out in entry]
    verdicts = {str(fields): (is_taken(fields), not faults(fields)) for fields in [entry, *changed, *lacking]}
    assert [told for told, (taken, valid) in verdicts.items() if taken != valid] == []
    assert {taken for taken, _ in verdicts.values()} == {True, False}


async def test_all_that_is_pushed_and_announced_is_as_the_document_says(harness: Harness, tmp_path: Path) -> None:
    settings, prefix = harness.settings(), harness.keys.prefix
    extensions: dict[str, bytes | str] = {"traceparent": PARENT, "tracestate": "a=1", "x-request": "1"}
    async with Producer(settings.redis_url, partitions=harness.partitions, prefix=prefix) as producer:
        for number, rate in enumerate(SAMPLE_RATES):
            pcm = Talk("c", rate=rate).say(1).pcm
            own = extensions if number else {}
            await producer.push("alice", f"c{number}", 1.7e9, pcm, sample_rate=rate, extensions=own)
            await producer.end("alice", f"c{number}", extensions=own)
    with wave.open(str(tmp_path / "speech.wav"), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(Talk("f").say(7).pcm)
    words = ("push", str(tmp_path / "speech.wav"), "--uid", "u", "--conversation", "file")
    status, _, complaints = await outcome(environment(settings), *words)
    assert (status, complaints) == (0, "")
    await harness.push(Chunk("u", "plain", 1.7e9, bytes(3200)), End("u", "plain"))
    entries = [each for n in range(harness.partitions) for each in await harness.redis.xrange(harness.keys.stream(n))]
    assert (len(entries), faults_of_all(entries)) == (2 * len(SAMPLE_RATES) + 3 + 2, [])
    await harness.drain()
    await harness.say(Talk("raw"), 1)
    await harness.drain(blob_codec="pcm")
    events = [each for n in range(harness.partitions) for each in await harness.redis.xrange(harness.keys.done(n))]
    assert faults_of_all(events, event=True) == []
    assert {name.decode() for _, fields in events for name in fields} == set(DoneEvent.__dataclass_fields__)
