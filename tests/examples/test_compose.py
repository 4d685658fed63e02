"""The Compose file: its services work together as it wires them, and audio that comes in at one end is stored."""

from __future__ import annotations

import sys
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from tests.examples.composition import DOCKERFILE, Composition, Unset
from tests.examples.stage import EXAMPLES, is_ready, recorded
from tests.support.secret import TEST_SECRET
from tests.support.speech import speech
from worker.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from tests.examples.stage import Stage

FILE = EXAMPLES / "compose" / "compose.yaml"
CLIENT = EXAMPLES / "websocket" / "client.py"
GIVEN = {"ENCRYPTION_SECRET": TEST_SECRET, "BLOB_CODEC": "pcm"}


async def test_audio_goes_from_a_microphone_into_the_directory_and_the_backend_learns_it(
    stage: Stage, tmp_path: Path
) -> None:
    composition, pcm = Composition(FILE, tmp_path, GIVEN), speech(12)
    database, port = tmp_path / "records" / "blobs.sqlite", composition.port("microphones:8000")
    for name in ("REDIS_URL", "STORE_URL", "BLOB_CODEC", "ENCRYPTION_SECRET"):
        del stage.environment[name]  # they come from the file
    async with AsyncExitStack() as stack:
        for name in ("valkey", "worker", "microphones", "backend"):
            service = composition.command(name)
            await stack.enter_async_context(stage.program(*service.words, environment=service.environment))
        await stage.until(lambda: is_ready(port), "the microphones' server is ready")
        client = await stack.enter_async_context(
            stage.program(sys.executable, CLIENT, "alice", "lunch", f"http://127.0.0.1:{port}")
        )
        assert client.stdin is not None
        client.stdin.write(pcm)
        client.stdin.close()
        assert await stage.ended(client) == 0, stage.said()
        await stage.until(lambda: recorded(database), "the backend records the blob")
    stage.environment |= composition.command("worker").environment
    assert list(recorded(database).values()) == [("lunch", len(pcm) // 2)]
    assert stage.exported("alice", "lunch") == pcm


def test_it_demands_a_secret_and_names_no_setting_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(Unset, match=r"^ENCRYPTION_SECRET: write ENCRYPTION_SECRET=… into \.env$"):
        Composition(FILE, tmp_path, {})
    services = Composition(FILE, tmp_path, GIVEN).services
    named = {name for service in services.values() for name in service.get("environment", {})}
    assert named <= {name.upper() for name in Settings.model_fields}


def test_volumes_belong_to_the_user_of_the_image_and_stops_are_waited_for(tmp_path: Path) -> None:
    services = Composition(FILE, tmp_path, GIVEN).services
    owner = services["directories"]["entrypoint"][1]
    assert f"\nUSER {owner}\n" in DOCKERFILE
    written = {volume.split(":")[1] for name in ("worker", "backend") for volume in services[name]["volumes"]}
    assert set(services["directories"]["entrypoint"][2:]) == {place for place in written if "examples" not in place}
    grace = Settings.model_fields["shutdown_grace"].default
    assert float(services["worker"]["stop_grace_period"].removesuffix("s")) > grace
