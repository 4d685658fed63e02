"""Fields that pushers add: stored audio does not depend on them, and a trace comes back in the done event."""

from __future__ import annotations

from dataclasses import replace

from codec.entry import Chunk
from tests.support.harness import EXACT, HANDOFF, Harness, eventually
from tests.support.oracle import Talk, assert_stored_once

PARENT, STATE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "congo=t61rcWkgMzE"
OTHER = PARENT.replace("0af7", "1111")


def traced(chunk: Chunk, parent: str, state: str = "") -> Chunk:
    own = {"traceparent": parent, "x-request": "1", "tracestate": state}
    return replace(chunk, extensions={name: value for name, value in own.items() if value})


async def test_done_event_has_the_trace_of_the_first_chunk_that_has_one(harness: Harness) -> None:
    talk = Talk("c")
    chunks = [talk.say(0.5) for _ in range(6)]
    chunks[1] = replace(chunks[1], extensions={"tracestate": "alone", "x-a": "1"})
    chunks[2] = traced(chunks[2], PARENT, STATE)
    chunks[3] = traced(chunks[3], OTHER)
    await harness.push(*chunks)
    await harness.drain(**EXACT)
    assert_stored_once(talk, harness.blobs())
    (event,) = await harness.events()
    assert (event["traceparent"], event["tracestate"]) == (PARENT, STATE)
    assert not [name for name in event if name.startswith("x-")]
    assert not [key for blob in harness.blobs() for key in blob.metadata if "trace" in key or key.startswith("x-")]
    assert await harness.dead() == []


async def test_without_a_trace_the_event_has_no_such_field(harness: Harness) -> None:
    await harness.say(Talk("c"), 3)
    await harness.drain(**EXACT)
    (event,) = await harness.events()
    assert not {"traceparent", "tracestate"} & set(event)


async def test_next_owner_of_a_seal_hands_on_the_same_trace(harness: Harness) -> None:
    talk = Talk("c")
    refusal = harness.server.fail("insert.*", status=403, times=1000, message="no right")
    async with harness.worker(**HANDOFF, shutdown_grace=2.1) as running:
        await harness.push(*(traced(talk.say(0.5), PARENT, STATE) for _ in range(6)))
        await eventually(lambda: running.count("store_retries_total", cause="permission") > 0)
        assert await harness.seals() == 1
    assert await harness.seals() == 1
    harness.server.script.faults.remove(refusal)
    await harness.drain(**EXACT)
    (event,) = await harness.events()
    assert (event["traceparent"], event["tracestate"]) == (PARENT, STATE)
    assert_stored_once(talk, harness.blobs())


async def test_repetition_with_another_trace_is_stored_once(harness: Harness) -> None:
    talk = Talk("c")
    chunks = [talk.say(0.5) for _ in range(6)]
    await harness.push(*(traced(chunk, PARENT) for chunk in chunks), *(traced(chunk, OTHER) for chunk in chunks))
    await harness.drain(**EXACT)
    assert_stored_once(talk, harness.blobs())


async def test_dead_letter_keeps_the_extensions(harness: Harness) -> None:
    own = {b"traceparent": PARENT.encode(), b"x-request": b"\xff\x00"}
    bad = {b"uid": b"u", b"conversation_id": b"c", b"timestamp": b"1795923578452", b"pcm": b"\1\0"}
    await harness.redis.xadd(harness.keys.stream(harness.partition("c")), {**bad, **own})
    await harness.drain(**EXACT)
    (letter,) = await harness.dead()
    assert letter.items() >= own.items()
    assert letter[b"reason"] == b"timestamp 1795923578452 looks like milliseconds; give Unix seconds"
