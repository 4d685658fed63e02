"""A worker process that dies, or whose files can't grow, at a chosen place. Settings come from the environment.

`python -m tests.support.dying_process_main rename 2 before` is killed with SIGKILL right before (or `after`) its second
call of `os.rename`; `… write 2000` can't write files beyond so many bytes, as if their volume were full; without
arguments it lives. With DRAIN=1 it stops when everything is stored.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys
from collections.abc import Callable

from worker import app, settings
from worker.runtime import logs
from worker.runtime.timing import SpoolTiming, StoreTiming, Timing

TIMING = Timing(store=StoreTiming(probe=0.2), spool=SpoolTiming(rest=0.2))


def die_at(call: str, number: int, moment: str) -> None:
    real: Callable[..., object] = getattr(os, call)
    calls = 0

    def counted(*args: object, **options: object) -> object:
        nonlocal calls
        calls += 1
        if (calls, moment) == (number, "before"):
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*args, **options)
        if calls == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(os, call, counted)


def main(*failure: str) -> None:
    match failure:
        case ("write", size):
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(size), int(size)))
        case (call, number, moment):
            die_at(call, int(number), moment)
    loaded = settings.load()
    logs.configure(loaded.log_level, loaded.log_format)
    asyncio.run(app.run(loaded, drain="DRAIN" in os.environ, timing=TIMING))


if __name__ == "__main__":
    main(*sys.argv[1:])
