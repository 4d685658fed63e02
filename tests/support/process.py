"""`audio-batch-worker` as a process of its own: started, signalled, killed, and what it said."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Self

from pydantic import SecretStr

from tests.support.paths import ROOT
from tests.support.waiting import within
from worker.settings import Settings

PATIENCE = 20.0


def environment(settings: Settings) -> dict[str, str]:
    """The variables that make these settings."""
    values = {name.upper(): getattr(settings, name) for name in settings.model_fields_set}
    clear = {
        name: value.get_secret_value() if isinstance(value, SecretStr) else value for name, value in values.items()
    }
    return {name: str(value) for name, value in clear.items() if value is not None}


class Process:
    """One run of the command line; leaving the context kills it."""

    def __init__(self, variables: Mapping[str, str], *arguments: str, files: int | None = None) -> None:
        """`files` limits its file descriptors, as `ulimit -n` does."""
        self._limit = [] if files is None else ["prlimit", f"--nofile={files}"]
        self._variables = {**os.environ, **variables}
        self._arguments = arguments
        self.lines: list[str] = []
        self._news = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *self._limit,
            sys.executable,
            "-m",
            "worker",
            *self._arguments,
            env=self._variables,
            cwd=ROOT,
            stderr=asyncio.subprocess.PIPE,
        )
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.running:
            await self.kill()
        await self._reader

    @property
    def running(self) -> bool:
        return self._process.returncode is None

    async def kill(self) -> None:
        """SIGKILL: nothing is tidied up."""
        self.signal(signal.SIGKILL)
        await self._process.wait()

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def ended(self, patience: float = PATIENCE) -> int:
        """The exit status, once it has ended by itself, within `patience` seconds."""
        async with within(patience, lambda: f"the process ends; its last lines are {self.lines[-3:]}"):
            await self._reader
            return await self._process.wait()

    async def said(self, text: str) -> None:
        """Wait until a line on standard error holds `text`."""
        async with within(PATIENCE, lambda: f"the process says {text!r}; its last lines are {self.lines[-3:]}"):
            while not any(text in line for line in self.lines):
                self._news.clear()
                await self._news.wait()

    def events(self, name: str) -> list[dict[str, Any]]:
        """Log events of that name so far."""
        return [event for event in map(_json, self.lines) if event.get("message") == name]

    @property
    def complaints(self) -> list[str]:
        """What it said on standard error beside its log."""
        return [line for line in self.lines if not _json(line)]

    async def _read(self) -> None:
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            self.lines.append(line.decode().rstrip("\n"))
            self._news.set()


async def outcome(
    variables: Mapping[str, str], *arguments: str, kill_after: float | None = None
) -> tuple[int, str, str]:
    """The exit status, standard output and standard error of one command, killed after so many seconds if given."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "worker", *arguments),
        env={**os.environ, **variables},
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    talking = asyncio.create_task(process.communicate())
    try:
        if kill_after is not None:
            await asyncio.wait([talking], timeout=kill_after)
            with suppress(ProcessLookupError):
                process.kill()
        output, errors = await talking
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode is not None
    return process.returncode, output.decode(), errors.decode()


def _json(line: str) -> dict[str, Any]:
    try:
        event: dict[str, Any] = json.loads(line)
    except ValueError:
        return {}
    return event
