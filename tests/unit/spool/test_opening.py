"""The spool's directory at the start of a worker."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from worker.errors import SpoolRefused
from worker.model.causes import SpoolCause
from worker.runtime.context import Context
from worker.runtime.timing import ProcessTiming, Timing
from worker.spool.names import SpoolOwner
from worker.spool.spool import Spool
from worker.spool.volume import Volume


class SilentVolume(Volume):
    """A volume that is gone: what asks it waits."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.answers = threading.Event()

    def prepare(self) -> None:
        self.answers.wait()


async def test_volume_that_does_not_answer_does_not_hold_up_the_start(directory: Path) -> None:
    context = Context(timing=Timing(process=ProcessTiming(patience=0.05)))
    volume = SilentVolume(directory)
    spool = Spool(volume, SpoolOwner("gs://bucket", "pcm"), 1000, context)
    try:
        with pytest.raises(SpoolRefused, match="has not answered") as refused:
            await spool.open()
    finally:
        volume.answers.set()
        spool.close()
    assert refused.value.cause is SpoolCause.TIMEOUT
