"""How `dead-letters` shows letters: by reason, or one by one, in a table or as JSON; few are held at a time."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

from worker.cli import printing
from worker.cli.text import foreign, shown_bytes, shown_seconds

if TYPE_CHECKING:
    from rich.table import Table

    from worker.stream.inspection.dead_letters import DeadLetter
    from worker.stream.inspection.letter_groups import LetterGroup, LetterSummary

ROWS_AT_ONCE = 500
"""Rows of one table: Rich holds a whole table to find the widths of its columns."""


def print_groups(found: LetterSummary, now_ms: int, *, as_json: bool = False, to_stderr: bool = False) -> None:
    """Show groups, one line each, with their first letter as an example."""
    if as_json:
        groups = [_group_facts(kind, group, now_ms) for kind, group in found.ordered()]
        printing.print_json({"count": found.count, "bytes": found.bytes, "reasons": groups})
        return
    console = printing.table_console(stderr=to_stderr)
    if found.groups:
        console.print(_group_table(found, now_ms))
    console.print(f"dead letters: {found.count}, {shown_bytes(found.bytes)}")


async def print_each(letters: AsyncIterator[DeadLetter], now_ms: int, *, as_json: bool) -> None:
    """Show letters one by one."""
    with json_list(shown=as_json) as show:
        rows: list[DeadLetter] = []
        count = size = 0
        async for letter in letters:
            count, size = count + 1, size + letter.bytes
            show(_facts(letter, now_ms))
            rows.append(letter)
            if len(rows) == ROWS_AT_ONCE:
                _print_rows(rows, now_ms, as_json=as_json)
                rows.clear()
        _print_rows(rows, now_ms, as_json=as_json)
    if not as_json:
        typer.echo(f"dead letters: {count}, {shown_bytes(size)}")


@contextmanager
def json_list(*, shown: bool) -> Iterator[Callable[[object], None]]:
    """Print a JSON list item by item, so that none is held; if not `shown`, items are not printed."""
    count = 0

    def show(item: object) -> None:
        nonlocal count
        if shown:
            typer.echo(("," if count else "[") + "\n  " + json.dumps(item), nl=False)
            count += 1

    try:
        yield show
    finally:
        if shown:
            typer.echo("\n]" if count else "[]")


def _facts(letter: DeadLetter, now_ms: int) -> dict[str, Any]:
    return asdict(letter) | {"id": letter.name, "age_s": (now_ms - letter.moved_ms) / 1000}


def _group_facts(kind: str, group: LetterGroup, now_ms: int) -> dict[str, Any]:
    return {
        "kind": kind,
        "count": group.count,
        "bytes": group.bytes,
        "first_age_s": (now_ms - group.first_ms) / 1000,
        "last_age_s": (now_ms - group.last_ms) / 1000,
        "example": _facts(group.example, now_ms),
    }


def _print_rows(letters: Sequence[DeadLetter], now_ms: int, *, as_json: bool) -> None:
    if letters and not as_json:
        printing.print_table(_table(letters, now_ms))


def _group_table(found: LetterSummary, now_ms: int) -> Table:
    headings = ("letters", "first", "last", "size")
    table = printing.plain_table(*headings, "example", "conversation", "reason", right=headings)
    for kind, group in found.ordered():
        numbers = (
            f"{group.count:,}",
            _age(group.first_ms, now_ms),
            _age(group.last_ms, now_ms),
            shown_bytes(group.bytes),
        )
        letter = group.example
        reason = letter.reason if group.alike else kind  # --reason takes either: what is shown chooses the group
        table.add_row(*numbers, foreign(letter.name), foreign(_whose(letter)), foreign(reason))
    return table


def _table(letters: Sequence[DeadLetter], now_ms: int) -> Table:
    table = printing.plain_table("age", "size", "id", "conversation", "reason", right=("age", "size"))
    for letter in letters:
        texts = foreign(letter.name), foreign(_whose(letter)), foreign(letter.reason)
        table.add_row(_age(letter.moved_ms, now_ms), shown_bytes(letter.bytes), *texts)
    return table


def _whose(letter: DeadLetter) -> str:
    whose = f"{letter.uid or '?'}/{letter.conversation_id or '?'}"
    return whose if letter.chunk.seq is None else f"{whose} #{letter.chunk.seq}"


def _age(moment_ms: int, now_ms: int) -> str:
    return shown_seconds((now_ms - moment_ms) / 1000)
