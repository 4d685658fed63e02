"""The backend examples: every stored blob is recorded once, whenever the backend was killed."""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from codec.entry import partition_of
from tests.examples.stage import EXAMPLES, WORKER, recorded
from tests.support.oracle import Talk

if TYPE_CHECKING:
    from pathlib import Path

    from tests.examples.stage import Stage

PARTITIONS = 4


def forget(database: Path) -> None:
    """Empty the records, but not the positions: what is read again would show."""
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("DELETE FROM blobs")


def store(stage: Stage, *talks: Talk) -> None:
    with stage.redis.client() as client:
        for talk in talks:
            chunk = talk.say(1)
            partition = partition_of(talk.conversation_id, PARTITIONS)
            client.xadd(f"pcm:{{{partition}}}", dict(chunk.fields()))
    stage.run(*WORKER, "run", "--drain")


def repeat_events(stage: Stage, conversation: str) -> None:
    """Let the events of a conversation come again, as after a failover, and then the same with other objects."""
    key = f"pcm:{{{partition_of(conversation, PARTITIONS)}}}:done"
    with stage.redis.client() as client:
        events = [fields for _, fields in client.xrange(key) if fields[b"conversation_id"] == conversation.encode()]
        for fields in events:
            client.xadd(key, fields)
            client.xadd(key, fields | {b"object": fields[b"object"] + b".copy"})


@pytest.mark.parametrize("program", ["follow.py", "faststream_app.py"])
async def test_every_blob_is_recorded_once_and_nothing_is_read_twice_after_a_crash(stage: Stage, program: str) -> None:
    stage.environment["PARTITIONS"] = str(PARTITIONS)
    database = stage.directory / "blobs.sqlite"
    command = (sys.executable, EXAMPLES / "backend" / program, database)
    talks = [Talk(f"{letter}") for letter in "abcde"]
    store(stage, *talks[:4])
    async with stage.program(*command) as backend:
        await stage.until(lambda: len(recorded(database)) == 4, "the first blobs are recorded")
        backend.kill()
        await backend.wait()
    forget(database)
    store(stage, talks[4])
    async with stage.program(*command):
        await stage.until(lambda: len(recorded(database)) == 1, "the blob of the meantime is recorded")
        repeat_events(stage, "e")
        await stage.until(lambda: len(recorded(database)) == 2, "a blob that is stored now is recorded")
    (name,) = stage.stored("user", "e")
    assert recorded(database) == {name: ("e", 16000), f"{name}.copy": ("e", 16000)}
