"""A worker is killed at one step of its spool; whoever comes next stores every sample once."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.dying_process import dying_process
from tests.support.harness import Harness
from tests.support.oracle import Talk, assert_stored_once
from tests.support.spooled_blobs import states
from worker.runtime.timing import SpoolTiming

RENAMES = {1: "writing to spooled", 2: "spooled to uploading", 3: "uploading to done"}
DEATHS = [("rename", number, moment) for number in RENAMES for moment in ("before", "after")]
DEATHS += [("fsync", number, "after") for number in (1, 2, 3)] + [("unlink", 1, "before")]


def let_claims_lapse(directory: Path) -> None:
    for path in directory.iterdir():
        os.utime(path, (1000, 1000))


@pytest.mark.parametrize("death", DEATHS, ids=lambda death: "-".join(map(str, death)))
async def test_killed_at_any_step_every_sample_is_stored_once(
    death: tuple[str, int, str], harness: Harness, directory: Path
) -> None:
    talk = Talk("talk")
    await harness.say(talk, 2.0)
    await harness.push(talk.end())
    changes = {"spool_dir": directory, "spool_mode": "always", "lease_ttl": 1.0}
    async with dying_process(harness.settings(**changes), *map(str, death), drain=True) as doomed:
        assert await doomed.wait() == -signal.SIGKILL
    let_claims_lapse(directory)
    harness.timing = replace(harness.timing, spool=SpoolTiming(scan=0.1))
    await harness.drain(**changes)
    assert_stored_once(talk, harness.blobs())
    assert len(harness.blobs()) == 1
    assert len(await harness.events()) == 1
    assert states(directory) == []
