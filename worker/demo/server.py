"""A redis-server of the demo's own: on a free port of this machine, in memory only."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError

from worker.demo.children import child
from worker.errors import DemoFailed

START_SECONDS = 20.0
POLL_SECONDS = 0.02


@asynccontextmanager
async def redis_server(directory: Path) -> AsyncIterator[str]:
    """Start it with its files in `directory`, and give its URL.

    Raises:
        DemoFailed: redis-server is not installed, or it does not start.
    """
    program = shutil.which("redis-server")
    if program is None:
        raise DemoFailed("there is no redis-server: apt-get install redis-server, or run .ci/setup")
    port, log = _free_port(), directory / "redis.log"
    place = ("--bind", "127.0.0.1", "--port", str(port), "--dir", str(directory))
    memory_only = ("--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction")
    async with child(program, *place, *memory_only, log=log, environment=os.environ) as process:
        url = f"redis://127.0.0.1:{port}/0"
        async with Redis.from_url(url) as client:
            await _started(process, client, log)
        yield url


async def _started(process: Process, client: Redis, log: Path) -> None:
    try:
        async with asyncio.timeout(START_SECONDS):
            while not await _answers(process, client):
                if process.returncode is not None:
                    raise DemoFailed(f"redis-server did not start: {_last_line(log)}")
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        raise DemoFailed(f"redis-server does not answer after {START_SECONDS:.0f} s") from None


async def _answers(process: Process, client: Redis) -> bool:
    # Another server may have been faster on this port, so the process has to be ours.
    try:
        return bool((await client.info("server"))["process_id"] == process.pid)
    except RedisError:
        return False


def _last_line(log: Path) -> str:
    return (log.read_text(errors="replace").splitlines() or ["it said nothing"])[-1]


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
