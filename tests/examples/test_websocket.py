"""The WebSocket example: a microphone that moves between two servers loses and doubles no sample."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from tests.examples.stage import EXAMPLES, is_ready
from tests.support.redis_server import free_port
from tests.support.speech import speech

if TYPE_CHECKING:
    from tests.examples.stage import Stage

SERVER = EXAMPLES / "websocket/server.py"
CLIENT = EXAMPLES / "websocket/client.py"
CHUNK = 5 * 2 * 16000


async def test_a_microphone_moves_to_another_server_when_its_own_dies(stage: Stage) -> None:
    pcm, ports = speech(33), (free_port(), free_port())
    servers = [(sys.executable, SERVER, "--host", "127.0.0.1", "--port", port) for port in ports]
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    async with stage.program(*servers[0]) as first, stage.program(*servers[1]) as second:
        await stage.until(lambda: all(map(is_ready, ports)), "the servers start")
        async with stage.program(sys.executable, CLIENT, "alice", "lunch", *urls) as client:
            assert client.stdin is not None
            client.stdin.write(pcm[: 3 * CHUNK])
            await stage.until(lambda: stage.entries() == 3, "three chunks are in Redis")
            first.kill()
            client.stdin.write(pcm[3 * CHUNK :])
            client.stdin.close()
            assert await stage.ended(client) == 0, stage.said()
        second.terminate()
        assert await stage.ended(second) == 0, stage.said()
    assert stage.faults() == []
    stage.drain()
    assert stage.exported("alice", "lunch") == pcm
    assert stage.audit("alice", "lunch")["verdict"] == "complete"


async def test_audio_that_no_worker_would_take_is_refused_at_once(stage: Stage) -> None:
    port = free_port()
    async with stage.program(sys.executable, SERVER, "--host", "127.0.0.1", "--port", port):
        await stage.until(lambda: is_ready(port), "the server starts")
        command = (sys.executable, CLIENT, "alice", "a/b", f"http://127.0.0.1:{port}")
        async with stage.program(*command) as client:
            assert client.stdin is not None
            client.stdin.write(bytes(100))
            client.stdin.close()
            assert await stage.ended(client) == 1
    assert stage.entries() == 0
