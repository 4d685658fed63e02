"""The same backend as a FastStream application: `pip install 'faststream[redis]'`.

    REDIS_URL=redis://localhost:6379/0 python faststream_app.py blobs.sqlite

A subscriber for each partition reads on behind the position that the database has. Each of them holds a connection that
waits for events, so let Redis have room for PARTITIONS connections (`maxclients`).
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from faststream import FastStream
from faststream.redis import RedisBroker, RedisStreamMessage, StreamSub
from pydantic import BaseModel
from records import Handled, Records

PREFIX = os.environ.get("STREAM_PREFIX", "pcm")
PARTITIONS = int(os.environ.get("PARTITIONS", "256"))
WAIT_MS = 2_000


class StoredBlob(BaseModel):
    """The fields that this backend needs; codec/README.md has all."""

    object: str
    uid: str
    conversation_id: str
    start: float
    samples: int
    sample_rate: int


def application(records: Records) -> FastStream:
    """The application with its subscribers."""
    broker = RedisBroker(os.environ["REDIS_URL"])
    positions = records.positions()

    async def on_blob(blob: StoredBlob, message: RedisStreamMessage) -> None:
        partition = int(message.raw_message["channel"].partition("{")[2].partition("}")[0])
        (entry,) = message.raw_message["message_ids"]
        records.record([Handled(partition, entry.decode(), blob.model_dump())])

    for partition in range(PARTITIONS):
        stream = f"{PREFIX}:{{{partition}}}:done"
        broker.subscriber(stream=StreamSub(stream, WAIT_MS, last_id=positions.get(partition, "0")))(on_blob)
    return FastStream(broker)


async def main() -> None:
    """Read until SIGTERM or SIGINT."""
    with Records(Path(sys.argv[1])) as records:
        await application(records).run()


if __name__ == "__main__":
    asyncio.run(main())
