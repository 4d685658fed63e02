"""`dead-letters`: look at entries that could not be processed, export them, push them again, or give them up."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from worker.cli import confirming, options, printing
from worker.cli.operating import letters_view
from worker.cli.redis_access import with_redis
from worker.cli.text import counted, printable
from worker.errors import StreamError
from worker.model.causes import ReplayOutcome, StreamCause
from worker.model.reasons import kind_of

if TYPE_CHECKING:
    from worker.model.ids import EntryId
    from worker.stream.inspection.dead_letters import DeadLetter, DeadLetters
    from worker.stream.inspection.overview import Inspector

T = TypeVar("T")

UNMOVED = {
    ReplayOutcome.GONE: "it is not there any more",
    ReplayOutcome.DELETED: "its conversation or user was deleted since; drop it",
    ReplayOutcome.FOREIGN: "no worker wrote it",
    ReplayOutcome.REFUSED: "Redis refuses to push it",
}
"""Why a letter was not pushed again, by outcome."""

DROPPED_AT_ONCE = 500
NAMED = 10
"""Letters of one outcome that are named; the rest is counted."""

commands = typer.Typer(
    no_args_is_help=True, help="Entries that could not be processed: list, export, push again, drop."
)

All = Annotated[bool, typer.Option("--all", help="Take all, when nothing else says which.")]


@dataclass(frozen=True, slots=True)
class Filter:
    """The dead letters that a command is about, as its options say; None lets all pass."""

    partition: Annotated[int | None, typer.Option(help="Only those of one partition.")] = None
    reason: Annotated[
        str | None, typer.Option(help="Only those whose reason contains this text; … stands for a value, as in ls.")
    ] = None
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
            (self.reason is None or self.reason in letter.reason or self.reason in kind_of(letter.reason))
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


def filtered(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `Filter` in place of its first argument, which is made of them."""
    of_filter = signature(Filter, eval_str=True).parameters
    of_command = list(signature(command, eval_str=True).parameters.values())[1:]

    @wraps(command)
    def with_options(**options: Any) -> None:  # noqa: ANN401 -- values that Typer has parsed
        wanted = Filter(**{name: options.pop(name) for name in of_filter})
        command(wanted, **options)

    named = [each.replace(kind=Parameter.KEYWORD_ONLY) for each in (*of_filter.values(), *of_command)]
    with_options.__signature__ = Signature(named)  # type: ignore[attr-defined]
    return with_options


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(commands, name="dead-letters")


@commands.command("ls")
@filtered
def list_letters(
    wanted: Filter,
    each: Annotated[bool, typer.Option("--each", help="List letter by letter, as --json always does.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="List letter by letter, this many at most.")] = None,
    by_reason: Annotated[bool, typer.Option("--by-reason", help="Group by reason also in JSON.")] = False,
    as_json: options.Json = False,
) -> None:
    """Show them by reason, or letter by letter, the oldest of each partition first. Their audio stays in Redis."""
    listed = each or limit is not None or (as_json and not by_reason)
    if listed and by_reason:
        raise typer.BadParameter("--by-reason groups them: leave out --each and --limit")

    from worker.stream.inspection.letter_groups import summarize_letters

    async def work(tools: Tools) -> Seen:
        now_ms = await tools.inspector.now_ms()
        chosen = Seen(tools, wanted)
        if listed:
            await letters_view.print_each(chosen.letters(limit), now_ms, as_json=as_json)
        else:
            letters_view.print_groups(await summarize_letters(chosen.letters()), now_ms, as_json=as_json)
        return chosen

    seen = _with_letters(work)
    if limit is None:
        seen.tell_missing()


@commands.command("export")
@filtered
def export_letters(
    wanted: Filter,
    directory: Annotated[Path, typer.Argument(help="A new or an empty directory.")],
    as_json: options.Json = False,
) -> None:
    """Write each into files, for a person to repair: its audio, and its other fields as JSON. They stay in Redis.

    The audio is a WAV if the entry claims a sample rate, or none (16 kHz); else its bytes are in a .pcm file. Repaired
    audio goes in again by `push`; then `drop` the letter.
    """
    from worker.cli.operating.letter_files import LetterFiles

    files = LetterFiles(directory)

    async def work(tools: Tools) -> Seen:
        chosen = Seen(tools, wanted)
        async for letter in chosen.letters():
            fields = await tools.letters.contents(letter)
            if fields is not None:
                files.write(letter, fields)
        return chosen

    seen = _with_letters(work)
    if as_json:
        printing.print_json({"exported": files.written, "directory": str(directory)})
    else:
        printing.say(f"exported {counted(files.written, 'dead letter')} to {directory}")
    seen.tell_missing()


@commands.command("replay")
@filtered
def replay_letters(wanted: Filter, everything: All = False, as_json: options.Json = False) -> None:
    """Push them again, exactly as they were, the oldest first."""
    _require(wanted, everything=everything)
    counts: Counter[ReplayOutcome] = Counter()
    seen = _with_letters(lambda tools: _replay(Seen(tools, wanted), counts, as_json=as_json))
    replayed = sum(number for outcome, number in counts.items() if outcome not in UNMOVED)
    for outcome, reason in UNMOVED.items():
        if (more := counts[outcome] - NAMED) > 0:
            typer.echo(f"{more:,} more stay: {reason}", err=True)
    if not as_json:
        typer.echo(f"replayed {replayed} of {counts.total()}")
    if replayed < counts.total():
        raise typer.Exit(1)
    seen.tell_missing()


@commands.command("drop")
@filtered
def drop_letters(
    wanted: Filter, everything: All = False, yes: confirming.Yes = False, as_json: options.Json = False
) -> None:
    """Remove them for good: their audio is lost."""
    _require(wanted, everything=everything)

    from worker.stream.inspection.letter_groups import summarize_letters

    async def work(tools: Tools) -> tuple[Seen, int]:
        now_ms = await tools.inspector.now_ms()
        chosen = Seen(tools, wanted)
        found = await summarize_letters(chosen.letters())
        if found.count and not yes:
            letters_view.print_groups(found, now_ms, to_stderr=True)
            confirming.confirm(f"Remove {counted(found.count, 'dead letter')} for good?", yes=yes)
        return chosen, await _drop(chosen)

    seen, dropped = _with_letters(work)
    if as_json:
        printing.print_json({"dropped": dropped})
    else:
        typer.echo(f"dropped {dropped}")
    seen.tell_missing()


class Seen:
    """The letters that a filter chooses, page by page; letters that arrive after the first look are left out.

    Otherwise a letter that is pushed again, and becomes a letter again, would be met without end.
    """

    def __init__(self, tools: Tools, wanted: Filter) -> None:
        self.tools = tools
        self._wanted = wanted
        self._newest: dict[int, EntryId | None] = {}
        self._named: set[str] = set()
        self._unreadable: set[int] = set()
        self._away: set[str] = set()

    async def letters(self, limit: int | None = None) -> AsyncIterator[DeadLetter]:
        """The chosen letters, `limit` of them at most."""
        count = 0
        for number in self._partitions():
            async for letter in self._readable(number):
                yield letter
                count += 1
                if count == limit:
                    return

    def tell_missing(self) -> None:
        """End with an exit code of its own if a letter that was named does not exist, or a partition was not read."""
        if missing := [name for name in self._wanted.ids or () if name not in self._named]:
            typer.echo(f"no such dead letter: {', '.join(map(printable, missing))}", err=True)
        if missing or self._unreadable or self._away:
            raise typer.Exit(printing.INCOMPLETE)

    async def _readable(self, partition: int) -> AsyncIterator[DeadLetter]:
        """The chosen letters of one partition; if it can't be read, that is told once, and the others go on."""
        if self.tools.letters.away(partition) in self._away:
            return
        try:
            async for letter in self._passing(partition):
                yield letter
        except StreamError as error:
            if away := self.tools.letters.away(partition):
                self._away.add(away)
                printing.say(f"the dead letters at {away} can't be listed: {error}", err=True)
                return
            if error.cause is not StreamCause.REFUSED:
                raise
            if partition not in self._unreadable:
                printing.say(f"the dead letters of partition {partition} can't be listed: {error}", err=True)
            self._unreadable.add(partition)

    async def _passing(self, partition: int) -> AsyncIterator[DeadLetter]:
        if partition not in self._newest:
            self._newest[partition] = await self.tools.letters.newest(partition)
        if (newest := self._newest[partition]) is None:
            return
        async for letter in self.tools.letters.list(partition, newest):
            if self._wanted.passes(letter):
                if self._wanted.ids:
                    self._named |= {letter.id, letter.name}
                yield letter

    def _partitions(self) -> Sequence[int]:
        number, partitions = self._wanted.partition, self.tools.partitions
        if number is not None and number not in range(partitions):
            raise typer.BadParameter(f"there is no partition {number}, only 0 to {partitions - 1}")
        return range(partitions) if number is None else [number]


def _require(wanted: Filter, *, everything: bool) -> None:
    if not wanted and not everything:
        raise typer.BadParameter("say which: --id, --partition, --reason, --uid, --conversation, or --all")


def _with_letters(work: Callable[[Tools], Awaitable[T]]) -> T:
    from worker.stream.inspection.dead_letters import DeadLetters
    from worker.stream.inspection.overview import Inspector

    return with_redis(
        lambda client, keys, layouts: work(Tools(Inspector(client, keys), DeadLetters(client, keys), layouts.total))
    )


async def _replay(chosen: Seen, counts: Counter[ReplayOutcome], *, as_json: bool) -> Seen:

    with letters_view.json_list(shown=as_json) as show:
        async for letter in chosen.letters():
            why = ""
            try:
                outcome = await chosen.tools.letters.replay(letter)
            except StreamError as error:
                if error.cause is not StreamCause.REFUSED:
                    raise StreamError(f"replayed {counts.total()}, then {error}", error.cause) from error
                outcome, why = ReplayOutcome.REFUSED, f": {error}"
            counts[outcome] += 1
            show({"letter": letter.name, "outcome": outcome})
            if outcome in UNMOVED and counts[outcome] <= NAMED:
                printing.say(f"{letter.name} stays: {UNMOVED[outcome]}{why}", err=True)
    return chosen


async def _drop(chosen: Seen) -> int:
    dropped = 0
    page: list[DeadLetter] = []
    async for letter in chosen.letters():
        page.append(letter)
        if len(page) == DROPPED_AT_ONCE:
            dropped += await chosen.tools.letters.drop(page)
            page.clear()
    return dropped + (await chosen.tools.letters.drop(page) if page else 0)
