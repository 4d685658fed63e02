"""`streams`: look at streams that no worker reads, and move their audio to where workers read it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from worker.cli import options, printing
from worker.cli.redis_access import with_redis
from worker.cli.text import counted, foreign, shown_seconds
from worker.errors import StreamError
from worker.model.causes import MoveOutcome, StreamCause

if TYPE_CHECKING:
    from rich.table import Table

    from worker.stream.inspection.strays import Moved, Stray, Strays

T = TypeVar("T")

WHY_LEFT = {
    MoveOutcome.GONE: "it was moved or removed meanwhile",
    MoveOutcome.OWNED: "a worker owns this stream, or has sealed a batch of it: stop that worker first",
    MoveOutcome.DELETED: "its conversation or user was deleted, maybe after the push: remove it with redis-cli XDEL",
    MoveOutcome.FOREIGN: "it is neither a chunk nor an end: look at it, then remove it with redis-cli XDEL",
}
"""Why an entry was not moved, by outcome."""

NAMED = 20
"""Entries of one stream that are named when they are left."""

commands = typer.Typer(
    no_args_is_help=True, help="Streams with audio that no worker reads: list, move to where workers read."
)

Found = tuple["list[Stray]", int, Sequence[str]]
"""Stray streams, Redis' time in ms, and nodes that do not answer."""


@dataclass(slots=True)
class MoveSummary:
    """What became of the entries of one stray stream: where how many went, and which were left.

    `refused` is Redis' reason if it refuses to read the stream, for example to this user.
    """

    stream: str
    moved: Counter[str] = field(default_factory=Counter)
    left: list[Moved] = field(default_factory=list)
    refused: str = ""

    @property
    def complete(self) -> bool:
        """Whether nothing is left."""
        return not (self.left or self.refused)

    @property
    def total(self) -> int:
        """Entries that were moved."""
        return sum(self.moved.values())

    def add(self, moved: Moved) -> None:
        """Count an entry."""
        if moved.outcome is MoveOutcome.MOVED:
            self.moved[moved.target] += 1
        elif moved.outcome is not MoveOutcome.GONE:
            self.left.append(moved)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(commands, name="streams")


@commands.command("ls")
def list_streams(as_json: options.Json = False) -> None:
    """List the streams with audio that no worker reads, and why.

    Exits with 3 if there are any, or if a node of a Redis Cluster does not answer.
    """
    strays, now_ms, away = _with_strays(_found)
    if as_json:
        printing.print_json([asdict(stray) for stray in strays])
    elif strays:
        printing.print_table(_table(strays, now_ms))
    else:
        typer.echo("workers read every stream that has audio")
    for node in away:
        printing.say(f"{node} does not answer: its streams are not searched", err=True)
    printing.finish(complete=not strays and not away)


@commands.command("move")
def move_streams(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[STREAM]...", help="Streams, as ls or you name them.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All that ls names, but for those whose prefix is declared.")
    ] = False,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
) -> None:
    """Move the entries of streams that no worker reads to the streams of their partitions.

    Each entry is moved in one atomic step and keeps its fields, so the command may be stopped and repeated at any time.
    A stream that is empty then is removed. What is not moved stays where it is, and is named: entries that are neither
    chunks nor ends, and those of deleted conversations and users. A stream that Redis refuses to give to this user is
    named too, and the others are moved. Exits with 3 then. A stream whose name has no number at its end is in no list:
    give its name.
    """
    if not names and not everything:
        raise typer.BadParameter("say which: names of streams, or --all")
    summaries = _with_strays(lambda strays: _move(strays, set(names or ()), dry_run=dry_run))
    if as_json:
        printing.print_json({"dry_run": dry_run, "streams": [_facts(summary) for summary in summaries]})
    else:
        _print(summaries, dry_run=dry_run)
    printing.finish(complete=all(summary.complete for summary in summaries))


def _with_strays(work: Callable[[Strays], Awaitable[T]]) -> T:
    from worker.stream.inspection.strays import Strays

    return with_redis(lambda client, keys, layouts: work(Strays(client, keys, lambda: layouts)))


async def _found(strays: Strays) -> Found:
    return await strays.find(), await strays.now_ms(), strays.away


async def _move(strays: Strays, names: set[str], *, dry_run: bool) -> list[MoveSummary]:
    chosen = await _chosen(strays, names)
    total, done = sum(stray.entries for stray in chosen), 0
    summaries = [MoveSummary(stray.key) for stray in chosen]
    with printing.progress("moving entries") as progress:
        for stray, summary in zip(chosen, summaries, strict=True):
            try:
                async for moved in strays.move(stray, dry_run=dry_run):
                    summary.add(moved)
                    done += 1
                    progress(done, max(done, total))
            except StreamError as error:
                if error.cause is StreamCause.REFUSED:
                    summary.refused = str(error)
                    continue
                count = sum(summary.total for summary in summaries)
                raise StreamError(f"moved {count} of {total}, then {error}; repeat it", error.cause) from error
    return summaries


async def _chosen(strays: Strays, names: set[str]) -> list[Stray]:
    """The streams of these names; without names, all that no other program claims."""
    found = await strays.find()
    chosen = [stray for stray in found if stray.key in names or not (names or stray.claimed)]
    unknown = names - {stray.key for stray in found}
    for name in sorted(unknown):
        if stray := await strays.named(name):
            chosen.append(stray)
            unknown.remove(name)
    if unknown:
        shown = ", ".join(sorted(unknown))
        raise typer.BadParameter(f"no stray stream has the name {shown}; see audio-batch-worker streams ls")
    return chosen


def _facts(summary: MoveSummary) -> dict[str, Any]:
    left = [{"entry": moved.entry, "outcome": moved.outcome, "reason": _reason(moved)} for moved in summary.left]
    return {"stream": summary.stream, "moved": summary.total, "targets": dict(summary.moved), "left": left} | (
        {"refused": summary.refused} if summary.refused else {}
    )


def _print(summaries: Sequence[MoveSummary], *, dry_run: bool) -> None:
    for summary in summaries:
        if summary.refused:
            printing.say(f"{summary.stream} can't be moved: {summary.refused}", err=True)
        for moved in summary.left[:NAMED]:
            printing.say(f"{summary.stream} {moved.entry} stays: {_reason(moved)}", err=True)
        if (more := len(summary.left) - NAMED) > 0:
            printing.say(f"{summary.stream}: {more:,} more stay; --json names them all", err=True)
    did = "would be moved" if dry_run else "moved"
    for summary in summaries:
        targets = ", ".join(f"{target} {count:,}" for target, count in sorted(summary.moved.items()))
        where = f" to {targets}" if targets else ""
        rest = "the rest" if summary.refused else f"{len(summary.left):,}"
        printing.say(f"{summary.stream}: {did} {summary.total:,}{where}; left {rest}")
    total = sum(summary.total for summary in summaries)
    left = sum(len(summary.left) for summary in summaries)
    refused = sum(1 for summary in summaries if summary.refused)
    also = f", streams that Redis refuses: {refused}" if refused else ""
    typer.echo(f"{counted(len(summaries), 'stream')}, entries {did}: {total:,}, left: {left:,}{also}")


def _reason(moved: Moved) -> str:
    return moved.error or WHY_LEFT[moved.outcome]


def _table(strays: Sequence[Stray], now_ms: int) -> Table:
    from worker.model.ids import entry_ms

    columns = ("stream", "entries", "oldest", "why no worker reads it")
    table = printing.plain_table(*columns, right=("entries", "oldest"))
    for stray in strays:
        age = shown_seconds(max(0, now_ms - entry_ms(stray.oldest)) / 1000)
        table.add_row(foreign(stray.key), f"{stray.entries:,}", age, foreign(stray.reason))
    return table
