"""A backend that records every stored blob, and goes on where it was after a restart, a crash or an outage.

REDIS_URL=redis://localhost:6379/0 python follow.py blobs.sqlite
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import sys
from pathlib import Path

from audio_batch_worker.events import EventReader
from records import Handled, Records


def on_missed(partition: int) -> None:
    """Events are gone from Redis before we read them: `audio-batch-worker ls --json` has what the store has."""
    sys.stderr.write(f"partition {partition}: some events are gone; list the store\n")


async def main() -> None:
    """Read until the process is ended."""
    with Records(Path(sys.argv[1])) as records:
        prefix = os.environ.get("STREAM_PREFIX", "pcm")
        positions = records.positions()
        async with EventReader(
            os.environ["REDIS_URL"], prefix=prefix, positions=positions, on_missed=on_missed
        ) as reader:
            while True:
                found = await reader.read()
                records.record(Handled(each.partition, each.id, dataclasses.asdict(each.event)) for each in found)


if __name__ == "__main__":
    asyncio.run(main())
