"""The output of `status`: the verdict and totals first, then the workers, then the partitions worth a look."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from worker.cli import printing
from worker.cli.text import foreign, shown_bytes, shown_seconds
from worker.model.ids import entry_ms
from worker.operations.diagnosis import Concern
from worker.spool import Summary
from worker.spool.names import WAITING
from worker.stream.inspection.overview import STATES_IN_REDIS, Overview, PartitionView, WorkerView
from worker.stream.servers.checks import ServerState

STYLES = {"danger": "bold red", "warning": "yellow"}
NOTHING = "[dim]-[/]"
SAFE = "audio is safe and flows"


def verdict(found: Sequence[Concern]) -> RenderableType:
    """All concerns, or that there are none."""
    lines = [foreign(f"{concern.severity}: {concern.text}", STYLES[concern.severity]) for concern in found]
    return Group(*lines) if lines else Text(SAFE, style="bold green")


def view(
    overview: Overview,
    found: Sequence[Concern],
    libopus: str,
    *,
    everything: bool,
    spool: Summary | None = None,
) -> RenderableType:
    """All of it; `everything` also shows idle partitions."""
    shown = [partition for partition in overview.partitions if everything or not partition.idle]
    parts: list[RenderableType] = [verdict(found), "", _totals(overview, libopus, spool)]
    workers = _workers(overview)
    if workers.row_count:
        parts.append(workers)
    if shown:
        parts.append(_partitions(overview, shown))
    if hidden := len(overview.partitions) - len(shown):
        parts.append(
            Text(f"{hidden} of {len(overview.partitions)} partitions hold nothing (--all shows them)", style="dim")
        )
    return Group(*parts)


class Cropped:
    """Lines in their full width, of which a screen shows what fits: names come first and are never folded."""

    def __init__(self, content: RenderableType) -> None:
        self._content = content

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw it."""
        wide = options.update(width=printing.WIDEST, height=None)
        for line in console.render_lines(self._content, wide, pad=False):
            yield from Segment.adjust_line_length(line, options.max_width, pad=False)
            yield Segment.line()


def _totals(overview: Overview, libopus: str, spool: Summary | None) -> RenderableType:
    partitions = overview.partitions
    stored = [view.last_stored_ms for view in partitions if view.last_stored_ms is not None]
    owned = len(partitions) - len(overview.unowned)
    grid = Table.grid(padding=(0, 2))
    grid.add_row("not stored yet", f"entries {overview.entries:,}, memory {shown_bytes(overview.bytes)}")
    grid.add_row("oldest of them", "none" if overview.oldest_age_ms is None else _age(overview.oldest_age_ms))
    grid.add_row("on their way", _states(overview))
    grid.add_row("stored", _stored(sum(view.stored for view in partitions), overview.now_ms, stored))
    if spool is not None:
        grid.add_row("in the spool", _spooled(spool, overview.now_ms))
    grid.add_row("dead letters", f"{sum(view.dead for view in partitions):,}")
    grid.add_row("partitions", f"owned {owned}, without an owner {len(overview.unowned)}")
    for server in overview.servers:
        grid.add_row("Redis" if len(overview.servers) == 1 else f"Redis {server.name}", _server(server))
    grid.add_row("Redis lasts", _lasts(overview))
    grid.add_row("encoder", f"{libopus} (here)")
    grid.columns[0].style = "dim"
    return grid


def _server(server: ServerState) -> str:
    if server.is_hidden:
        return f"{server.version}, memory unknown, policy {server.policy}, appendonly {server.saving}"
    limit = f" of {shown_bytes(server.memory_limit)}" if server.memory_limit else ", no limit"
    replicas = f", replicas {server.replicas}" if server.replicas else ""
    return (
        f"{server.version}, {shown_bytes(server.memory)}{limit}, {server.policy}, appendonly {server.saving}{replicas}"
    )


def _lasts(overview: Overview) -> str:
    """How long Redis' memory lasts, or why that can't be told."""
    measured = overview.measured
    if overview.server.is_hidden:
        return "can't be told: it does not tell its memory"
    if not overview.server.memory_limit:
        return "can't be told: it has no maxmemory"
    if measured is None:
        return "can't be told: no worker has measured its memory for a minute yet"
    over = f"over the last {shown_seconds(measured.measured)}"
    if overview.full_in_s is None:
        return f"its memory has not grown {over}"
    rate = f"{shown_bytes(measured.growth * 60)} a minute {over}"
    return f"full in {shown_seconds(overview.full_in_s)} if it grows on by {rate}"


def _states(overview: Overview) -> str:
    entries = ", ".join(f"{state} {count:,}" for state, count in overview.states.items())
    return f"{entries} (batches: {overview.sealed_batches:,})"


def _stored(blobs: int, now_ms: int, last: Sequence[int]) -> str:
    return f"blobs {blobs:,}" + (f", the last {_age(now_ms - max(last))} ago" if last else "")


def _spooled(spool: Summary, now_ms: int) -> str:
    age = "" if spool.oldest_ms is None else f", the oldest {_age(now_ms - spool.oldest_ms)} old"
    blobs = ", ".join(f"{state} {spool.blobs.get(state, 0):,}" for state in WAITING)
    return f"{blobs}, {shown_bytes(spool.bytes)}{age}"


def _workers(overview: Overview) -> Table:
    owned = Counter(view.owner for view in overview.partitions)
    table = _table("worker", "revision", "up for", "partitions", "expires in")
    for worker in overview.workers or ():
        table.add_row(*_worker_row(worker, overview.now_ms, owned.pop(worker.name, 0)))
    for name, count in sorted((name, count) for name, count in owned.items() if name is not None):
        table.add_row(foreign(name, "yellow"), NOTHING, NOTHING, str(count), "[yellow]silent[/]")
    return table


def _worker_row(worker: WorkerView, now_ms: int, partitions: int) -> list[RenderableType]:
    up = _age(now_ms - worker.started_ms) if worker.started_ms else NOTHING
    revision = foreign(worker.revision) if worker.revision else NOTHING
    return [foreign(worker.name), revision, up, str(partitions), _age(worker.silent_in_ms)]


def _partitions(overview: Overview, shown: Iterable[PartitionView]) -> RenderableType:
    held = ("entries", "memory", "oldest", *STATES_IN_REDIS)
    table = _table("#", "owner", "lease left", "gen", *held, "dead", "blobs")
    for view in shown:
        owner = "[red]none[/]" if view.owner is None else foreign(view.owner)
        lease = NOTHING if view.owner is None else _age(view.lease_left_ms)
        oldest = NOTHING if view.oldest is None else _age(overview.now_ms - entry_ms(view.oldest))
        dead = f"[yellow]{view.dead}[/]" if view.dead else NOTHING
        numbers = [_count(view.entries), shown_bytes(view.bytes) if view.bytes else NOTHING, oldest]
        counts = [*map(_count, view.states.values()), dead, _count(view.stored)]
        table.add_row(str(view.number), owner, lease, str(view.generation), *numbers, *counts)
    return table


def _table(first: str, *columns: str) -> Table:
    return printing.plain_table(first, *columns, right={*columns} - {"owner", "revision"})


def _count(number: int) -> str:
    return f"{number:,}" if number else NOTHING


def _age(ms: int) -> str:
    return shown_seconds(max(0, ms) / 1000)
