"""The spool's files: every step may be the last one of its worker, and workers do not know of each other."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.spooled_blobs import in_state, nonsense, record_of, seal_of, spool, states
from worker.spool.names import FileState, SpoolFile
from worker.spool.record import read_record, stem_of
from worker.spool.volume import Volume

RECORD = record_of(seal_of("1-0", "2-0"))
CONTENT = RECORD.to_bytes()
STEM = stem_of(RECORD.header, len(CONTENT))
CALLS = ("open", "fsync", "rename", "utime", "unlink")


class Killed(BaseException):
    """Nothing that runs afterwards may touch the disk."""


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """No file of this process may grow beyond `size` bytes: a write gets as far as that."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def life(volume: Volume, reached: list[str]) -> None:
    """A blob's whole life, with what Redis and the store know of it."""
    volume.write(STEM, CONTENT)
    reached.append("done in Redis")
    claim = volume.claim(SpoolFile(STEM, FileState.SPOOLED))
    assert claim is not None
    assert read_record(volume.read(claim), STEM) == RECORD
    reached.append("stored")
    volume.finish(claim)
    reached.append("over")


def die_at(monkeypatch: pytest.MonkeyPatch, number: int, *, after: bool) -> None:
    """Let the process be gone before or after its n-th step on the disk."""
    steps = 0

    def mortal(call: Callable[..., object]) -> Callable[..., object]:
        def step(*args: object, **options: object) -> object:
            nonlocal steps
            steps += 1
            if steps > number or (steps == number and not after):
                raise Killed
            result = call(*args, **options)
            if steps == number:
                raise Killed
            return result

        return step

    for name in CALLS:
        monkeypatch.setattr(os, name, mortal(getattr(os, name)))


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("number", range(1, 14))
def test_killed_at_any_step_the_blob_is_somewhere(
    directory: Path, number: int, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached: list[str] = []
    with monkeypatch.context() as patched:
        die_at(patched, number, after=after)
        with suppress(Killed):
            life(Volume(directory), reached)
    complete = [
        file for file in Volume(directory).scan().files if file.state in (FileState.SPOOLED, FileState.UPLOADING)
    ]
    for file in complete:
        assert read_record(Volume(directory).read(file), STEM) == RECORD
    if "done in Redis" in reached and "stored" not in reached:
        assert len(complete) == 1
    if "over" in reached:
        assert states(directory) == []


def test_the_life_of_a_blob_takes_as_many_steps_as_are_killed_above(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached: list[str] = []
    die_at(monkeypatch, 13, after=True)
    life(Volume(directory), reached)
    assert reached[-1] == "over"


def test_what_a_full_volume_cuts_off_leaves_nothing_behind(volume: Volume, directory: Path) -> None:
    content = nonsense("large", 300_000)
    with file_size_limit(100_000), pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
        volume.write(STEM, content)
    assert states(directory) == []


def test_two_workers_claim_a_blob_once(directory: Path) -> None:
    spool(Volume(directory), RECORD)
    (file,) = Volume(directory).scan().files
    claims = [Volume(directory).claim(file) for _ in range(2)]
    assert [claim is not None for claim in claims] == [True, False]


def test_a_blob_that_waited_for_long_is_claimed_as_of_now(volume: Volume, directory: Path) -> None:
    spool(volume, RECORD)
    (file,) = volume.scan().files
    os.utime(directory / file.name, (1000, 1000))
    claim = volume.claim(file)
    assert claim is not None
    assert -1 < volume.ages([claim])[claim] < 60


def test_ages_are_told_by_the_clock_that_was_passed(directory: Path) -> None:
    now = 5000.0
    volume = Volume(directory, now=lambda: now)
    spool(volume, RECORD)
    (file,) = volume.scan().files
    os.utime(directory / file.name, (4900, 4900))
    assert volume.ages([file]) == {file: 100.0}


def test_a_touch_makes_young(volume: Volume, directory: Path) -> None:
    spool(volume, RECORD)
    (file,) = volume.scan().files
    os.utime(directory / file.name, (1000, 1000))
    volume.touch(file)
    assert volume.ages([file])[file] < 60


def test_losing_a_race_is_no_error(volume: Volume, directory: Path) -> None:
    """Everything that a slow worker still wants to do with a blob that others have finished does nothing."""
    spool(volume, RECORD)
    (file,) = volume.scan().files
    claim = volume.claim(file)
    assert claim is not None
    volume.finish(claim)
    volume.touch(claim)
    volume.release(claim)
    volume.finish(claim)
    volume.remove(claim)
    assert volume.ages([claim]) == {}
    assert volume.claim(file) is None
    assert states(directory) == []


def test_the_same_blob_twice_is_there_once(volume: Volume, directory: Path) -> None:
    spool(volume, RECORD, RECORD)
    assert states(directory) == ["spooled"]


def test_the_oldest_audio_comes_first(volume: Volume) -> None:
    entries = ["100-0", "9-0", "10-2", "10-10"]
    spool(volume, *(record_of(seal_of(entry, conversation_id=entry)) for entry in entries))
    assert [file.stem.first for file in volume.scan().files] == ["9-0", "10-2", "10-10", "100-0"]


def test_others_can_not_read_it(volume: Volume, directory: Path) -> None:
    spool(volume, RECORD)
    (path,) = in_state(directory, FileState.SPOOLED)
    assert path.stat().st_mode & 0o077 == 0


def test_unknown_files_are_reported_and_left_alone(volume: Volume, directory: Path) -> None:
    (directory / "notes.txt").write_text("mine")
    spool(volume, RECORD)
    listing = volume.scan()
    assert (len(listing.files), listing.unknown) == (1, ["notes.txt"])
    assert listing.bytes == len(CONTENT)
