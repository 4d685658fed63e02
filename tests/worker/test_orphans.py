"""An object whose seal was gone when it was there: it stays while somebody may count it, and goes when nobody did."""

from __future__ import annotations

import pytest

from tests.harness import EXACT, Rig, eventually
from tests.oracle import Talk, assert_plays
from worker import orphans

pytestmark = pytest.mark.usefixtures("short_rests")


@pytest.fixture(autouse=True)
def asks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orphans, "ASK_SECONDS", 0.05)


async def test_object_whose_audio_is_read_again_is_counted(rig: Rig) -> None:
    talk = Talk("c")
    gate = rig.server.hold(stage="reply")
    async with rig.worker(**EXACT) as running:
        await rig.say(talk, 3)
        await gate.reached()
        await rig.redis.delete(rig.keys.ready(rig.partition("c")))
        gate.open()
        await eventually(lambda: running.count("abandoned_uploads_total", fate="counted") == 1)
    assert running.count("lost_entries_total") == 0
    assert_plays(talk, rig.blobs())
    assert [event["object"] for event in await rig.events()] == [blob.name for blob in rig.blobs()]


async def test_object_goes_once_others_have_stored_its_audio(rig: Rig) -> None:
    """Somebody else finishes the batch with an object of his own, while our upload is on its way."""
    gate = rig.server.hold(stage="reply")
    number = rig.partition("c")
    async with rig.worker(**EXACT) as running:
        ids = await rig.say(Talk("c"), 3)
        await gate.reached()
        await rig.redis.xadd(rig.keys.done(number), {"object": "chunks/user/c/another.batch.enc"})
        await rig.redis.delete(rig.keys.ready(number))
        await rig.redis.xdel(rig.keys.stream(number), *ids)
        assert len(rig.blobs()) == 1
        gate.open()
        await eventually(lambda: running.count("abandoned_uploads_total", fate="uncounted") == 1)
        assert rig.blobs() == []
        await eventually(lambda: running.count("lost_entries_total") == len(ids))
