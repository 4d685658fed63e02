"""SIGTERM and SIGINT: the first asks the worker to stop, the second ends the process at once."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

SIGNALS = (signal.SIGTERM, signal.SIGINT)

LINGER_SECONDS = 1.0
"""After a signal, seconds from the end of all work to the end of the process, whatever its threads do."""

log = structlog.get_logger()


@contextmanager
def stop_on_signals(grace: float) -> Iterator[asyncio.Event]:
    """An event that the first signal sets; `grace` seconds later the process ends in any case.

    If the block ends before that, the process ends with exit code 0 soon after it. At its exit Python waits for all
    threads, and a volume that hangs can block one. This thread only holds what the next owner does again.

    The first signal also restores the default actions, so a second one kills the process. The next owner then recovers
    the work in flight, as after any crash. The event loop must be running in the main thread.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    forced_ends: list[threading.Timer] = []

    def ask(received: signal.Signals) -> None:
        log.info("worker.stopping", signal=received.name)
        _restore(loop)
        forced_ends.append(_end_in(grace, _end_by_force))
        stop.set()

    for number in SIGNALS:
        loop.add_signal_handler(number, ask, number)
    try:
        yield stop
    finally:
        _restore(loop)
    for forced_end in forced_ends:
        forced_end.cancel()
        _end_in(LINGER_SECONDS, _leave_threads)


def leave_on_sigterm() -> None:
    """Until `stop_on_signals` takes over, let SIGTERM end the process with exit code 0, because it does no work yet.

    The first process of a container never gets a signal for which it has no handler.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))


def _restore(loop: asyncio.AbstractEventLoop) -> None:
    for number in SIGNALS:
        if loop.remove_signal_handler(number):
            signal.signal(number, signal.SIG_DFL)


def _end_in(seconds: float, action: Callable[[], None]) -> threading.Timer:
    """Do `action` if the process still runs after `seconds`."""
    timer = threading.Timer(seconds, action)
    timer.daemon = True
    timer.start()
    return timer


def _end_by_force() -> None:
    """End while work is under way; that is as harmless as any crash."""
    log.error("worker.ended_by_force")
    os._exit(1)


def _leave_threads() -> None:
    log.warning("worker.threads_left")
    os._exit(0)
