"""`dead-letters`: look at entries that could not be processed, push them again, or give them up."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import wraps
from inspect import Signature, signature
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from worker.cli import options, printing
from worker.cli.text import foreign, printable, shown_bytes, shown_seconds

if TYPE_CHECKING:
    from rich.table import Table

    from worker.stream.dead_letters import DeadLetter, DeadLetters, ReplayOutcome
    from worker.stream.overview import Inspector

T = TypeVar("T")

UNMOVED = {
    "gone": "it is not there any more",
    "deleted": "its conversation or user was deleted since; drop it",
    "foreign": "no worker wrote it",
}
"""Why a letter was not pushed again, by outcome."""

SHOWN_BEFORE_DROP = 20

commands = typer.Typer(no_args_is_help=True, help="Entries that could not be processed: list, push again, drop.")

All = Annotated[bool, typer.Option("--all", help="Take all, when nothing else says which.")]
Yes = Annotated[bool, typer.Option("--yes", help="Don't ask.")]


@dataclass(frozen=True, slots=True)
class Filter:
    """The dead letters that a command is about, as its options say; None lets all pass."""

    partition: Annotated[int | None, typer.Option(help="Only those of one partition.")] = None
    reason: Annotated[str | None, typer.Option(help="Only those whose reason contains this text.")] = None
    ids: Annotated[
        list[str] | None,
        typer.Option("--id", help="Only this one, as ls shows it; may be repeated."),
    ] = None
    uid: Annotated[str | None, typer.Option(help="Only those of one user.")] = None
    conversation: Annotated[str | None, typer.Option(help="Only those of one conversation.")] = None

    def __bool__(self) -> bool:
        return any(value not in (None, []) for value in asdict(self).values())

    def passes(self, letter: DeadLetter) -> bool:
        """Whether it is one of them."""
        return (
            (self.reason is None or self.reason in letter.reason)
            and (not self.ids or letter.id in self.ids or letter.name in self.ids)
            and (self.uid is None or letter.uid == self.uid)
            and (self.conversation is None or letter.conversation_id == self.conversation)
        )


@dataclass(frozen=True, slots=True)
class Tools:
    """The objects that the commands work with."""

    inspector: Inspector
    letters: DeadLetters
    partitions: int
    unreadable: list[int] = field(default_factory=list)
    """Partitions whose letters could not be listed."""


def filtered(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `Filter` in place of its first argument, which is made of them."""
    of_filter = signature(Filter, eval_str=True).parameters
    of_command = list(signature(command, eval_str=True).parameters.values())[1:]

    @wraps(command)
    def with_options(**options: Any) -> None:  # noqa: ANN401 -- values that Typer has parsed
        wanted = Filter(**{name: options.pop(name) for name in of_filter})
        command(wanted, **options)

    with_options.__signature__ = Signature([*of_filter.values(), *of_command])  # type: ignore[attr-defined]
    return with_options


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(commands, name="dead-letters")


@commands.command("ls")
@filtered
def list_letters(wanted: Filter, as_json: options.Json = False) -> None:
    """List them, the oldest of each partition first. Their audio stays in Redis."""
    letters, now_ms, all_read = _with_redis(lambda tools: _select(tools, wanted))
    if as_json:
        printing.print_json([_facts(letter, now_ms) for letter in letters])
    else:
        _print_table(letters, now_ms)
    _miss(wanted, letters, all_read=all_read)


@commands.command("replay")
@filtered
def replay_letters(wanted: Filter, everything: All = False, as_json: options.Json = False) -> None:
    """Push them again, exactly as they were, the oldest first."""
    from worker.stream.dead_letters import ReplayOutcome

    _require(wanted, everything=everything)
    outcomes, all_read = _with_redis(lambda tools: _replay(tools, wanted))
    counts = Counter(outcome for _, outcome in outcomes)
    if as_json:
        printing.print_json([{"letter": letter.name, "outcome": outcome} for letter, outcome in outcomes])
    else:
        typer.echo(f"replayed {counts[ReplayOutcome.REPLAYED]} of {len(outcomes)}")
    for letter, outcome in outcomes:
        if outcome is not ReplayOutcome.REPLAYED:
            typer.echo(f"{letter.name} stays: {UNMOVED[outcome]}", err=True)
    if counts[ReplayOutcome.REPLAYED] < len(outcomes):
        raise typer.Exit(1)
    _miss(wanted, [letter for letter, _ in outcomes], all_read=all_read)


@commands.command("drop")
@filtered
def drop_letters(wanted: Filter, everything: All = False, yes: Yes = False, as_json: options.Json = False) -> None:
    """Remove them for good: their audio is lost."""
    _require(wanted, everything=everything)
    letters, now_ms, all_read = _with_redis(lambda tools: _select(tools, wanted))
    if letters and not yes:
        _print_table(letters, now_ms, limit=SHOWN_BEFORE_DROP, to_stderr=True)
        typer.confirm("Remove these for good?", abort=True, err=True)
    dropped = _with_redis(lambda tools: tools.letters.drop(letters))
    if as_json:
        printing.print_json({"dropped": dropped})
    else:
        typer.echo(f"dropped {dropped}")
    _miss(wanted, letters, all_read=all_read)


def _require(wanted: Filter, *, everything: bool) -> None:
    if not wanted and not everything:
        raise typer.BadParameter("say which: --id, --partition, --reason, --uid, --conversation, or --all")


def _miss(wanted: Filter, letters: Sequence[DeadLetter], *, all_read: bool) -> None:
    """End with an exit code of its own if a letter that was named does not exist, or a partition could not be read."""
    known = {name for letter in letters for name in (letter.id, letter.name)}
    if missing := [name for name in wanted.ids or () if name not in known]:
        typer.echo(f"no such dead letter: {', '.join(map(printable, missing))}", err=True)
    if missing or not all_read:
        raise typer.Exit(printing.INCOMPLETE)


def _with_redis(work: Callable[[Tools], Awaitable[T]]) -> T:
    from worker import settings
    from worker.stream.client import Client, connect
    from worker.stream.dead_letters import DeadLetters
    from worker.stream.keys import Keys
    from worker.stream.overview import Inspector

    loaded = settings.load()
    keys = Keys(loaded.stream_prefix)

    async def working() -> T:
        async with Client(connect(loaded.redis_url)) as client:
            inspector = Inspector(client, keys)
            partitions = await inspector.partitions(loaded.partitions)
            return await work(Tools(inspector, DeadLetters(client, keys), partitions))

    return asyncio.run(working())


async def _select(tools: Tools, wanted: Filter) -> tuple[list[DeadLetter], int, bool]:
    """The letters, Redis' time in ms, and whether all partitions could be read."""
    if wanted.partition is not None and wanted.partition not in range(tools.partitions):
        raise typer.BadParameter(f"there is no partition {wanted.partition}, only 0 to {tools.partitions - 1}")
    numbers = range(tools.partitions) if wanted.partition is None else [wanted.partition]
    found = [letter for number in numbers for letter in await _listed(tools, number) if wanted.passes(letter)]
    return found, await tools.inspector.now_ms(), not tools.unreadable


async def _listed(tools: Tools, partition: int) -> list[DeadLetter]:
    """The letters of one partition; if its keys are broken, that is told, and the others go on."""
    from worker.errors import StreamError
    from worker.model.causes import StreamCause

    try:
        return [letter async for letter in tools.letters.list(partition)]
    except StreamError as error:
        if error.cause is not StreamCause.REFUSED:
            raise
        tools.unreadable.append(partition)
        printing.say(f"the dead letters of partition {partition} can't be listed: {error}", err=True)
        return []


async def _replay(tools: Tools, wanted: Filter) -> tuple[list[tuple[DeadLetter, ReplayOutcome]], bool]:
    from worker.errors import StreamError

    letters, _, all_read = await _select(tools, wanted)
    outcomes: list[tuple[DeadLetter, ReplayOutcome]] = []
    for letter in letters:
        try:
            outcomes.append((letter, await tools.letters.replay(letter)))
        except StreamError as error:
            raise StreamError(f"replayed {len(outcomes)} of {len(letters)}, then {error}", error.cause) from error
    return outcomes, all_read


def _facts(letter: DeadLetter, now_ms: int) -> dict[str, Any]:
    return asdict(letter) | {"id": letter.name, "age_s": (now_ms - letter.moved_ms) / 1000}


def _print_table(
    letters: Sequence[DeadLetter], now_ms: int, *, limit: int | None = None, to_stderr: bool = False
) -> None:
    console = printing.table_console(stderr=to_stderr)
    if letters:
        console.print(_table(letters[:limit], now_ms))
    console.print(f"dead letters: {len(letters)}, {shown_bytes(sum(letter.bytes for letter in letters))}")


def _table(letters: Sequence[DeadLetter], now_ms: int) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for column in ("id", "age", "size"):
        table.add_column(column, no_wrap=True, justify="left" if column == "id" else "right")
    table.add_column("conversation", no_wrap=True)
    table.add_column("reason", no_wrap=True)
    for letter in letters:
        age = shown_seconds((now_ms - letter.moved_ms) / 1000)
        whose = f"{letter.uid or '?'}/{letter.conversation_id or '?'}"
        if letter.chunk.seq is not None:
            whose += f" #{letter.chunk.seq}"
        table.add_row(foreign(letter.name), age, shown_bytes(letter.bytes), foreign(whose), foreign(letter.reason))
    return table
