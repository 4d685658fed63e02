"""The machine of one example: a Redis, a store in a directory, and programs started as their users start them."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
import wave
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING, Any

from tests.support.contract import faults_of_all
from tests.support.paths import ROOT
from tests.support.secret import TEST_SECRET
from tests.support.waiting import within

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    from tests.support.redis_server import RedisServer

EXAMPLES = ROOT / "deploy" / "examples"
PATIENCE = 60.0
LOOK_SECONDS = 0.02
WORKER = (sys.executable, "-m", "worker")


class Stage:
    """Programs get its environment; what they say goes into files of `directory`."""

    def __init__(self, redis: RedisServer, directory: Path) -> None:
        self.redis = redis
        self.directory = directory
        self.environment = {
            **os.environ,
            "REDIS_URL": redis.url,
            "STORE_URL": (directory / "store").as_uri(),
            "ENCRYPTION_SECRET": TEST_SECRET,
            "BLOB_CODEC": "pcm",
            "HTTP_HOST": "127.0.0.1",
            "HTTP_PORT": "0",
        }
        (directory / "store").mkdir()
        self._programs = 0

    @asynccontextmanager
    async def program(
        self, *command: object, environment: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> AsyncIterator[Process]:
        """A program at work, with a pipe as its standard input; killed when the block is left."""
        self._programs += 1
        with (self.directory / f"program-{self._programs}.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *map(str, command),
                env={**self.environment, **(environment or {})},
                cwd=cwd or self.directory,
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
            )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    def run(self, *command: object) -> str:
        """What a program prints that must succeed."""
        done = subprocess.run(
            [*map(str, command)],
            env=self.environment,
            cwd=ROOT if command[0] == sys.executable else self.directory,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def drain(self) -> None:
        """Let a worker store everything."""
        self.run(*WORKER, "run", "--drain")

    def entries(self) -> int:
        """Entries in all streams."""
        with self.redis.client() as client:
            return sum(client.xlen(key) for key in client.scan_iter("pcm:{*}") if key.endswith(b"}"))

    def faults(self) -> list[str]:
        """What is wrong with the entries in all streams by the AsyncAPI document."""
        with self.redis.client() as client:
            streams = [key for key in client.scan_iter("pcm:{*}") if key.endswith(b"}")]
            return [fault for key in streams for fault in faults_of_all(client.xrange(key))]

    def exported(self, uid: str, conversation: str) -> bytes:
        """All samples that are stored of a conversation, as a reader hears them."""
        path = self.directory / f"{conversation}.wav"
        self.run(*WORKER, "export", "--uid", uid, "--conversation", conversation, "-o", path, "--force")
        with wave.open(str(path)) as file:
            return bytes(file.readframes(file.getnframes()))

    def stored(self, uid: str, conversation: str) -> list[str]:
        """The names of a conversation's objects."""
        store = self.directory / "store"
        return sorted(str(path.relative_to(store)) for path in (store / "chunks" / uid / conversation).iterdir())

    def audit(self, uid: str, conversation: str) -> dict[str, Any]:
        """The proof that a conversation is complete."""
        told = self.run(*WORKER, "audit", "--uid", uid, "--conversation", conversation, "--json")
        verdict: dict[str, Any] = json.loads(told)
        return verdict

    def said(self) -> str:
        """The last lines of all programs, for a failure."""
        logs = sorted(self.directory.glob("program-*.log"))
        return "\n".join(f"{log.name}: {log.read_text(errors='replace')[-1500:]}" for log in logs)

    async def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait until a condition that can only be looked at holds."""
        async with within(PATIENCE, lambda: f"{what}\n{self.said()}"):
            while True:
                if condition():
                    return
                await asyncio.sleep(LOOK_SECONDS)

    async def ended(self, process: Process) -> int:
        """The exit status of a program that ends by itself."""
        async with within(PATIENCE, lambda: f"the program ends\n{self.said()}"):
            return await process.wait()


def recorded(database: Path) -> dict[str, tuple[str, int]]:
    """What the backend's database has: object → conversation and samples."""
    if not database.exists():
        return {}
    with closing(sqlite3.connect(database, timeout=30)) as connection:
        try:
            rows = connection.execute("SELECT object, conversation_id, samples FROM blobs").fetchall()
        except sqlite3.OperationalError:  # the tables are not there yet
            return {}
    return {name: (conversation, samples) for name, conversation, samples in rows}


def is_ready(port: int) -> bool:
    """Whether the WebSocket server at this port takes audio."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError):
        return False
