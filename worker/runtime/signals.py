"""SIGTERM and SIGINT: the first asks the worker to stop, the second ends the process at once."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

SIGNALS = (signal.SIGTERM, signal.SIGINT)

log = structlog.get_logger()


@contextmanager
def stop_on_signals(grace: float) -> Iterator[asyncio.Event]:
    """An event that the first signal sets; `grace` seconds later the process ends in any case.

    The first signal also restores the default actions, so a second one kills the process. The next owner then recovers
    the work in flight, as after any crash. The event loop must be running in the main thread.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def ask(received: signal.Signals) -> None:
        log.info("worker.stopping", signal=received.name)
        _restore(loop)
        _end_in(grace)
        stop.set()

    for number in SIGNALS:
        loop.add_signal_handler(number, ask, number)
    try:
        yield stop
    finally:
        _restore(loop)


def _restore(loop: asyncio.AbstractEventLoop) -> None:
    for number in SIGNALS:
        if loop.remove_signal_handler(number):
            signal.signal(number, signal.SIG_DFL)


def _end_in(seconds: float) -> None:
    """End the process by force if it still runs after `seconds`.

    At its exit Python waits for all threads, and a volume that hangs can block one. The forced end is as harmless as
    any crash.
    """
    timer = threading.Timer(seconds, _end)
    timer.daemon = True
    timer.start()


def _end() -> None:
    log.error("worker.ended_by_force")
    os._exit(1)
