"""Each batch of a worker is counted in the state that it is in, and in no other."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest

from tests.support.harness import Harness, Running, eventually
from tests.support.oracle import Talk
from tests.support.timing import SHORT_TURNS
from worker.batching.encoder import BatchEncoder
from worker.consuming.partition import Partition
from worker.model.states import HELD_STATES, BatchState
from worker.runtime.timing import GaugeTiming, Timing


@pytest.fixture
def timing() -> Timing:
    return replace(SHORT_TURNS, gauges=GaugeTiming(observe=0.05))


def counted(running: Running) -> dict[str, float]:
    counts = {str(state): running.count("batches_in_state", state=state) for state in HELD_STATES}
    return {state: count for state, count in counts.items() if count}


async def test_a_batch_is_counted_on_its_way(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded, finish = asyncio.Event(), BatchEncoder.finish

    async def finish_later(encoder: BatchEncoder) -> bytes:
        await encoded.wait()
        return await finish(encoder)

    monkeypatch.setattr(BatchEncoder, "finish", finish_later)
    gate = harness.server.hold(stage="request")
    async with harness.worker() as running:
        talk = Talk("c")
        await harness.say(talk, 1)
        await eventually(lambda: counted(running) == {"open": 1})
        await harness.push(talk.end())
        await eventually(lambda: counted(running) == {"encoding": 1})
        encoded.set()
        await eventually(lambda: counted(running) == {"uploading": 1})
        gate.open()
        await eventually(lambda: counted(running) == {})


def test_what_waits_for_its_seal_is_open_and_what_is_read_again_is_sealed() -> None:
    batcher = SimpleNamespace(open={1: "grows"}, resuming=lambda: ["comes"])
    decided = SimpleNamespace(closed=["waits"], completed=["came"])
    on_their_way = {
        n: SimpleNamespace(state=state) for n, state in enumerate((BatchState.SEALED, BatchState.UPLOADING))
    }
    in_flight = SimpleNamespace(batches=on_their_way)
    partition = cast("Partition", SimpleNamespace(_batcher=batcher, _decided=decided, in_flight=in_flight))
    assert Partition.states(partition) == Counter(open=2, sealed=3, uploading=1)
