"""Open files of workers that died: nothing that may be the only copy of audio is ever removed."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import pytest

from codec.entry import partition_of
from tests.support.harness import Harness
from tests.support.oracle import Talk
from tests.support.spool_harness import SpoolHarness
from tests.support.spooled_blobs import in_state, seal_of, states
from worker.model.seal import Seal
from worker.spool.names import FileState, SpoolFile
from worker.spool.record import stem_of


def left(spool_harness: SpoolHarness, directory: Path, seal: Seal, *, cut: int = 0, age: float | None = None) -> Path:
    """An open file without its last `cut` bytes, untouched since `age` seconds, by default since long ago."""
    record = spool_harness.record(seal)
    content = record.to_bytes()
    file = SpoolFile(stem_of(record.header, len(content)), FileState.WRITING, secrets.token_hex(8))
    path = directory / file.name
    path.write_bytes(content[: len(content) - cut])
    written = path.stat().st_mtime - (spool_harness.drainer.lease + 1 if age is None else age)
    os.utime(path, (written, written))
    return path


@pytest.mark.parametrize("cut", [0, 10, 10**6], ids=["whole", "torn", "empty"])
async def test_one_whose_entries_are_in_redis_is_removed(
    cut: int, spool_harness: SpoolHarness, harness: Harness, directory: Path
) -> None:
    entries = await harness.push(*(Talk("talk").say(0.5) for _ in range(3)))
    left(spool_harness, directory, seal_of(*entries), cut=cut)
    await spool_harness.drainer.round()
    assert states(directory) == []
    assert harness.blobs() == []


async def test_one_whose_seal_is_in_redis_is_removed(
    spool_harness: SpoolHarness, harness: Harness, directory: Path
) -> None:
    seal = seal_of("1000-0", "2000-0")
    ready = harness.keys.ready(partition_of("talk", harness.partitions))
    await harness.redis.hset(ready, seal.id, seal.to_json())
    left(spool_harness, directory, seal, cut=10)
    await spool_harness.drainer.round()
    assert states(directory) == []


@pytest.mark.parametrize("cut", [10, 10**6], ids=["torn", "empty"])
async def test_a_torn_one_whose_audio_is_not_in_redis_is_kept_and_reported(
    cut: int, spool_harness: SpoolHarness, harness: Harness, directory: Path
) -> None:
    path = left(spool_harness, directory, seal_of("1000-0", "2000-0"), cut=cut)
    for _ in range(2):
        await spool_harness.drainer.round()
    assert in_state(directory, FileState.WRITING) == [path]
    await spool_harness.drainer.left()
    assert spool_harness.count("spool_blobs", state="torn") == 1
    assert harness.blobs() == []


async def test_one_of_which_only_a_part_is_in_redis_is_kept(
    spool_harness: SpoolHarness, harness: Harness, directory: Path
) -> None:
    entries = await harness.push(*(Talk("talk").say(0.5) for _ in range(2)))
    path = left(spool_harness, directory, seal_of("1-0", entries[-1]), cut=10)
    other = left(spool_harness, directory, seal_of(entries[0], "99999999999999-0"), cut=10)
    await spool_harness.drainer.round()
    assert set(in_state(directory, FileState.WRITING)) == {path, other}


async def test_a_whole_one_whose_audio_is_not_in_redis_is_uploaded(
    spool_harness: SpoolHarness, harness: Harness, directory: Path
) -> None:
    left(spool_harness, directory, seal_of("1000-0", "2000-0"))
    for _ in range(2):
        await spool_harness.drainer.round()
    assert len(harness.blobs()) == 1
    assert states(directory) == []


async def test_one_that_is_being_written_is_left_alone(
    spool_harness: SpoolHarness, harness: Harness, directory: Path
) -> None:
    entries = await harness.push(Talk("talk").say(0.5))
    path = left(spool_harness, directory, seal_of(*entries), cut=10, age=1.0)
    await spool_harness.drainer.round()
    assert in_state(directory, FileState.WRITING) == [path]
