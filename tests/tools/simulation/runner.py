"""Runs seeds, and tells what is wrong with one."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import stamina.instrumentation
import structlog

from tests.tools.simulation import node as nodes
from tests.tools.simulation.loop import Deadlock, HotLoop
from tests.tools.simulation.oracle import findings
from tests.tools.simulation.redis_model import Script
from tests.tools.simulation.redis_scripts import SCRIPTS
from tests.tools.simulation.world import Run, Stuck, World

Trace = Callable[[str], None]


def play(
    world: World,
    *,
    scripts: Mapping[str, Script] = SCRIPTS,
    trace: Trace | None = None,
    prepare: Callable[[Run], None] = lambda _: None,
) -> list[str]:
    """Run one world; what the oracle finds wrong with it, best nothing."""
    before = random.getstate()
    random.seed(world.seed)  # retries draw their jitter from there
    try:
        with _logs_to(trace):
            run = Run(world, scripts=scripts, trace=trace)
            prepare(run)
            try:
                run.run()
            except (Stuck, Deadlock, HotLoop) as error:
                return [*run.failures, str(error)]
            return findings(run)
    finally:
        random.setstate(before)


@contextmanager
def _logs_to(trace: Trace | None) -> Iterator[None]:
    before = structlog.get_config()
    stamina.instrumentation.set_on_retry_hooks([])

    def write(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        if trace is not None:
            node = nodes.current.get()
            name = event.pop("event")
            fields = " ".join(f"{key}={value}" for key, value in event.items())
            trace(f"{'':9} {node.name if node else '':10}   {name} {fields}")
        raise structlog.DropEvent

    level = logging.NOTSET if trace is not None else logging.CRITICAL
    structlog.configure(processors=[write], wrapper_class=structlog.make_filtering_bound_logger(level))
    try:
        yield
    finally:
        structlog.configure(**before)
        stamina.instrumentation.set_on_retry_hooks(None)
