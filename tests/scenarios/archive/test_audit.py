"""The audit beside a worker, its Redis and its store: the command's answer is true wherever the audio is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from codec.entry import Chunk, End
from tests.support.command import command
from tests.support.dead_letters import dead_letter_streams
from tests.support.harness import Harness
from tests.support.stored_blobs import describe_again
from worker.model.ids import Conversation
from worker.settings import Settings
from worker.stores import open_store
from worker.stream.client import Client
from worker.stream.inspection import conversation_view as facts_of_entries
from worker.stream.inspection.conversation_view import ConversationView
from worker.stream.scripting import Call
from worker.stream.servers.connecting import connect
from worker.stream.servers.reply_limit import at_most

MakeSettings = Callable[..., Settings]


def spoken(first: int, last: int, *, numbered: bool = True) -> list[Chunk]:
    """Seconds `first` to `last` of a conversation, one chunk each."""
    return [
        Chunk("u", "c", 1000.0 + second, bytes(32000), seq=second if numbered else None)
        for second in range(first, last + 1)
    ]


async def asked(harness: Harness, *options: str, conversation: str = "c") -> tuple[int, dict[str, Any]]:
    """Exit code and answer of the command."""
    arguments = ["audit", "--uid", "u", "--conversation", conversation, "--json", *options]
    result = await asyncio.to_thread(command, harness.settings(), *arguments)
    return result.exit_code, json.loads(result.stdout)


async def test_conversation_that_a_worker_stored_is_complete(harness: Harness) -> None:
    await harness.push(*spoken(0, 7))
    await harness.drain()

    code, answer = await asked(harness, "--last-seq", "7")

    assert (code, answer["complete"], answer["problems"]) == (0, True, [])
    assert [found["seqs"] for found in answer["blobs"]] == ["0-2", "3-5", "6-7"]


async def test_events_tell_the_numbers_too(harness: Harness) -> None:
    await harness.push(*spoken(0, 3), *spoken(4, 4, numbered=False))
    await harness.drain()

    assert {event["start"]: event["seqs"] for event in await harness.events()} == {"1000.000": "0-2", "1003.000": "3"}


async def test_batch_that_another_worker_finished_tells_its_numbers(harness: Harness) -> None:
    gate = harness.server.hold(stage="request")
    async with harness.worker(shutdown_grace=2.1):
        await harness.push(*spoken(0, 2))
        await gate.reached()
    assert await harness.seals() == 1
    gate.open()
    await harness.drain()

    code, answer = await asked(harness, "--last-seq", "2")

    assert (code, answer["blobs"][0]["seqs"]) == (0, "0-2")


async def test_lost_blob_is_missed_to_the_number(harness: Harness) -> None:
    await harness.push(*spoken(0, 7))
    await harness.drain()
    lost = next(blob for blob in harness.blobs() if blob.metadata["seqs"] == "3-5")
    async with harness.worker() as running:
        await running.store.delete(lost.name)

    code, answer = await asked(harness)

    assert (code, answer["missing"], answer["absent"]) == (1, {"": "3-5"}, [lost.name])
    assert (
        f"done, but not in the store: 1 of the blobs, first {lost.name}; in a spool, or deleted since"
        in answer["problems"]
    )


async def test_audio_is_told_wherever_it_is(harness: Harness) -> None:
    await harness.push(*spoken(0, 2))
    await harness.drain()
    await harness.push(*spoken(3, 4))
    fields = [part for field in spoken(5, 5)[0].fields().items() for part in field]
    async with dead_letter_streams(harness.settings()) as streams:
        await streams.dead_letter(fields, partition=harness.partition("c"))
    await harness.push(Chunk("somebody else", "c", 0.0, b"12", seq=9))

    code, answer = await asked(harness, "--last-seq", "6")

    assert code == 1
    assert [chunk["seq"] for chunk in answer["in_redis"]] == [3, 4]
    assert [found["seq"] for found in answer["dead_letters"]] == [5]
    assert answer["missing"] == {"": "6"}


async def test_a_pusher_that_restarts_loses_neither_silence_nor_the_proof(harness: Harness) -> None:
    lives = [
        [Chunk("u", "c", 1000.0 + 10 * life + seq, bytes(32000), seq=seq, session=session) for seq in range(5)]
        for life, session in enumerate((b"first", b"second"))
    ]
    await harness.push(*lives[0], *lives[1][:4], End("u", "c", seq=5, session=b"second"))
    running = await harness.drain()

    code, answer = await asked(harness)

    assert sum(blob.samples for blob in harness.blobs()) >= 9 * 16000
    assert running.count("duplicates_total") == 0
    assert running.count("seq_missing_total") == 1
    assert (code, answer["problems"]) == (1, ["missing: session second: seq 4 (1 chunk)"])
    await harness.push(lives[1][4])
    await harness.drain()
    assert (await asked(harness))[0] == 0


class Frugal(Client):
    """Refuses replies that are much larger than an entry may be."""

    async def run(self, call: Call) -> Any:  # noqa: ANN401 -- as the method it replaces
        with at_most(facts_of_entries.PAGE_BYTES + 8192):
            return await super().run(call)


@pytest.mark.parametrize(("size", "readable"), [(150_000, True), (300_000, False)])
async def test_waiting_audio_is_looked_at_in_parts_however_large_it_is(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, size: int, readable: bool
) -> None:
    monkeypatch.setattr(facts_of_entries, "PAGE_BYTES", 200_000)
    chunks = spoken(0, 2 * facts_of_entries.PAGE)
    chunks[7] = replace(chunks[7], pcm=bytes(size))
    await harness.push(*chunks)

    async with Frugal(connect(harness.settings().redis_url)) as client:
        view = ConversationView(client, harness.keys, harness.partition("c"), Conversation("u", "c"))
        found = await view.held_chunks()

    assert [chunk.facts.seq for chunk in found] == [chunk.seq for chunk in chunks]
    assert [chunk.identity for chunk in found if chunk.facts.seq != 7] == [
        chunk.identity() for chunk in chunks if chunk.seq != 7
    ]
    assert found[7].identity == (chunks[7].identity() if readable else None)


async def test_deletion_is_told_and_what_came_after_it_is_judged(harness: Harness) -> None:
    ids = await harness.push(*spoken(0, 2))
    await harness.drain()
    await harness.redis.hset(harness.keys.deleted(harness.partition("c")), "u/c", ids[-1])

    code, answer = await asked(harness)

    assert (code, answer["problems"], answer["authenticated"]) == (1, ["it was deleted"], True)
    assert answer["deleted"] == int(ids[-1].split("-")[0]) / 1000


async def test_events_of_what_was_deleted_are_not_expected_in_the_store(harness: Harness) -> None:
    number = harness.partition("c")
    await harness.redis.hset(harness.keys.deleted(number), "u/c", "5000-1")
    for event, entry in (("6000-1", "5000-1"), ("6000-2", "5000-2"), ("6000-3", "")):
        fields = {"uid": "u", "conversation_id": "c", "object": f"object-{event}", "first_entry": entry}
        await harness.redis.xadd(harness.keys.done(number), fields, event)
    assert (await asked(harness))[1]["absent"] == ["object-6000-2", "object-6000-3"]

    await harness.redis.hset(harness.keys.deleted(number), "u/c", "7000-0")
    fields = {"uid": "u", "conversation_id": "c", "object": "old", "first_entry": ""}
    await harness.redis.xadd(harness.keys.done(number), fields, "6500-1")

    code, answer = await asked(harness)

    assert (code, answer["absent"], "it was deleted" in answer["problems"]) == (1, [], True)


async def test_deletion_that_an_older_version_recorded_as_a_time_is_told(harness: Harness) -> None:
    await harness.redis.hset(harness.keys.deleted(harness.partition("c")), "u/c", "5000")

    code, answer = await asked(harness)

    assert (code, answer["deleted"], "it was deleted" in answer["problems"]) == (1, 5.0, True)


async def test_numbers_are_never_only_counted_in_the_answer(harness: Harness) -> None:
    chunks = [Chunk("u", "c", 1000.0 + second / 10, bytes(3200), seq=2 * second) for second in range(400)]
    await harness.push(*chunks)
    await harness.drain(batch_max_seconds=4.0)

    missing = (await asked(harness))[1]["missing"]

    assert missing == {"": ",".join(str(number) for number in range(1, 798, 2))}


async def test_without_a_secret_the_answer_says_that_nothing_is_authenticated(harness: Harness) -> None:
    await harness.push(*(replace(chunk, protection="standard") for chunk in spoken(0, 2)))
    await harness.drain()
    unauthenticated = harness.settings(encryption_secret="")

    told = [
        await asyncio.to_thread(command, unauthenticated, "audit", "--uid", "u", "--conversation", "c", *options)
        for options in ([], ["--json"])
    ]

    assert [result.exit_code for result in told] == [0, 0]
    assert "ENCRYPTION_SECRET is not set: what blobs say of themselves is believed" in told[0].stdout
    assert json.loads(told[1].stdout)["authenticated"] is False


async def test_conversation_without_numbers_is_judged_by_time(harness: Harness) -> None:
    await harness.push(*spoken(0, 5, numbered=False))
    await harness.drain()
    assert (await asked(harness))[0] == 0
    await harness.push(*spoken(20, 21, numbered=False))
    await harness.drain()

    code, answer = await asked(harness)

    assert code == 1
    assert answer["discontinuities"] == [{"start": 1006.0, "seconds": 14.0}]


async def test_table_shows_blobs_and_the_verdict(harness: Harness) -> None:
    await harness.push(*spoken(0, 4), *spoken(40, 41))
    await harness.drain()

    result = await asyncio.to_thread(command, harness.settings(), "audit", "--uid", "u", "--conversation", "c")

    for told in ("0-2", "3-4", "1000.000.opus.enc", "no audio for 35.0 s", "missing: seq 5-39 (35 chunks)"):
        assert told in result.stdout


async def test_table_shows_what_metadata_say_letter_by_letter(settings: MakeSettings) -> None:
    store = open_store(settings().store_url)
    await store.create("chunks/u/c/1000.000.opus", b"x", {"seqs": ":bell:[red]\x1b"})

    result = await asyncio.to_thread(command, settings(), "audit", "--uid", "u", "--conversation", "c")

    assert r":bell:[red]\x1b" in result.stdout
    await store.close()


async def test_sentences_show_sessions_letter_by_letter(settings: MakeSettings) -> None:
    store = open_store(settings().store_url)
    await store.create("chunks/u/c/1000.000.opus", b"x", {"seqs": ":bell:[red]\x1b:1"})
    await describe_again(store, "chunks/u/c/1000.000.opus", identities=b"only one")

    result = await asyncio.to_thread(command, settings(), "audit", "--uid", "u", "--conversation", "c")

    assert r"missing: session :bell:[red]\x1b: seq 0 (1 chunk)" in result.stdout
    await store.close()


@pytest.mark.parametrize(
    "changes", [{"redis_url": "redis://127.0.0.1:1/0"}, {"redis_url": "redis://127.0.0.1/x"}, {"store_url": ""}]
)
def test_question_that_cannot_be_answered_ends_with_2(settings: MakeSettings, changes: dict[str, str]) -> None:
    result = command(settings().model_copy(update=changes), "audit", "--uid", "u", "--conversation", "c")

    assert result.exit_code == 2
    assert result.stderr.startswith("audio-batch-worker: ")


async def test_store_that_cannot_be_listed_ends_with_2(harness: Harness) -> None:
    missing = harness.settings(store_url="gs://nobody-made-this-bucket")
    harness.server.fail("list", times=1000, status=403, reason="forbidden")

    for changed in (missing, harness.settings()):
        result = await asyncio.to_thread(command, changed, "audit", "--uid", "u", "--conversation", "c")
        assert result.exit_code == 2
        assert result.stderr.startswith("audio-batch-worker: ")


async def test_deletion_that_cannot_be_read_ends_with_2(harness: Harness) -> None:
    await harness.redis.hset(harness.keys.deleted(harness.partition("c")), "u/c", "yesterday")

    result = await asyncio.to_thread(command, harness.settings(), "audit", "--uid", "u", "--conversation", "c")

    assert result.exit_code == 2
    assert result.stderr.startswith("audio-batch-worker: ")


def test_crash_is_no_answer(settings: MakeSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.archive.audit.collect", lambda *_, **__: 1 / 0)

    result = command(settings(), "audit", "--uid", "u", "--conversation", "c")

    assert result.exit_code == 2
    assert "ZeroDivisionError" in result.stderr


def test_id_that_cannot_be_stored_ends_with_2(settings: MakeSettings) -> None:
    assert command(settings(), "audit", "--uid", "../u", "--conversation", "c").exit_code == 2
