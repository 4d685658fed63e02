"""Child processes that never outlive the demo, however it ends."""

from __future__ import annotations

import asyncio
import ctypes
import signal
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

PR_SET_PDEATHSIG = 1  # linux/prctl.h
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
AGAIN_SECONDS = 0.2
"""Seconds between cancellations: Python 3.11's `wait_for`, which the Redis library uses, can swallow one."""


@asynccontextmanager
async def child(*command: str | Path, log: Path, environment: Mapping[str, str]) -> AsyncIterator[Process]:
    """A process whose output goes to the file `log`; killed when the block ends, or when this process dies."""
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=DEVNULL, stdout=output, stderr=output, env=environment, preexec_fn=_die_with_parent()
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Signals that would end Python but not the children cancel the current task instead, until it ends.

    Raises:
        SystemExit: there was a signal; the exit code tells which, as in shells.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    received: list[signal.Signals] = []

    def cancel() -> None:
        if task and received:
            task.cancel()
            loop.call_later(AGAIN_SECONDS, cancel)

    def end(number: signal.Signals) -> None:
        received.append(number)
        cancel()

    for number in ENDING:
        loop.add_signal_handler(number, end, number)
    try:
        yield
    except asyncio.CancelledError:
        if not received:
            raise
    finally:
        for number in ENDING:
            loop.remove_signal_handler(number)
    if received:
        exit_code = 128 + received.pop()
        raise SystemExit(exit_code)


def _die_with_parent() -> Callable[[], object] | None:
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl  # looked up before the fork, after which little is allowed
    return lambda: prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
