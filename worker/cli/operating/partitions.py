"""`partitions`: shows the number of partitions, and changes it step by step while audio flows."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli import options, printing
from worker.cli.redis_access import with_redis
from worker.errors import StreamError

if TYPE_CHECKING:
    from worker.model.layouts import Layouts
    from worker.stream.client import Client
    from worker.stream.keys import Keys

NAMED = 10
"""Partitions with audio of another number that are named."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("partitions")(partitions)


def partitions(
    number: Annotated[
        int | None, typer.Argument(min=1, help="The wanted number; without it, nothing is changed.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Show the number of partitions, or make the next step to another number. No step stops or delays audio.

    The first step allows NUMBER beside the current number: workers own the streams of the larger one. Then set
    PARTITIONS for all workers and pushers, and roll them out at leisure. The same command again makes the last step,
    when no audio waits that only the former number explains. Until then, the former number undoes the first step.
    Exits with 3 if a step can't be made yet.
    """
    from worker.stream.keys import MAX_PARTITIONS

    if number is not None and number > MAX_PARTITIONS:
        raise typer.BadParameter(f"{number} partitions are too many; give at most {MAX_PARTITIONS}")
    layouts, left = with_redis(lambda client, keys, found: _step(client, keys, found, number))
    if as_json:
        printing.print_json({"current": layouts.current, "numbers": sorted(layouts.numbers), "left": left})
    else:
        for line in left:
            printing.say(f"not yet: {line}", err=True)
        printing.say(_advice(layouts, number))
    printing.finish(complete=not left)


async def _step(client: Client, keys: Keys, layouts: Layouts, wanted: int | None) -> tuple[Layouts, list[str]]:
    """Make the next step unless something prevents it; returns the numbers after it, and what prevents it."""
    from worker.stream.config import change_layouts, record_or_check
    from worker.stream.inspection.layout_change import left_behind, next_step

    if wanted is None:
        return layouts, []
    layouts = await record_or_check(client, keys, layouts.current)  # a Redis without workers has no record yet
    after = next_step(layouts, wanted)
    if after == layouts:
        return layouts, []
    left = [] if after.is_changing else [line async for line in left_behind(client, keys, layouts, wanted)]
    if left:
        more = len(left) - NAMED
        return layouts, [*islice(left, NAMED), *([f"and {more} more partitions"] if more > 0 else [])]
    if not await change_layouts(client, keys, layouts, after):
        raise StreamError(f"{keys.config} was changed meanwhile; look at it again: audio-batch-worker partitions")
    return after, []


def _advice(layouts: Layouts, wanted: int | None) -> str:
    """What counts now, and what to do next."""
    if not layouts.is_changing:
        return f"{layouts.current} partitions; all workers and pushers have PARTITIONS={layouts.current}"
    former = layouts.current
    (new,) = layouts.numbers - {former}
    if wanted == former:
        new, former = former, new
    return (
        f"{former} and {new} partitions: workers own {layouts.total}, and pushers may use either number.\n"
        f"Next: set PARTITIONS={new} for workers and pushers, and roll them out in any order."
        f" When no pusher has {former} any more: audio-batch-worker partitions {new}"
    )
