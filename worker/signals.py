"""SIGTERM and SIGINT: the first asks the worker to stop, the second ends the process at once."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

SIGNALS = (signal.SIGTERM, signal.SIGINT)

log = structlog.get_logger()


@contextmanager
def stop_on_signals() -> Iterator[asyncio.Event]:
    """An event that the first signal sets.

    That signal also restores the default actions: a second one kills, and what was in flight is recovered by the next
    owner as after any crash. The event loop must be running in the main thread.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def ask(received: signal.Signals) -> None:
        log.info("worker.stopping", signal=received.name)
        _restore(loop)
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
