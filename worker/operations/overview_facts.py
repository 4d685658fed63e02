"""An overview as a document for programs: `status --json` and the page show the same facts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from codec.errors import LibopusMissing
from codec.libopus import library
from worker.operations.diagnosis import Concern
from worker.spool import Summary
from worker.stream.inspection.overview import Overview


def libopus_version() -> str:
    """The version of libopus here, or that there is none."""
    try:
        return library().version
    except LibopusMissing:
        return "no libopus"


def overview_facts(overview: Overview, found: Sequence[Concern], spool: Summary | None) -> dict[str, Any]:
    """Concerns, totals, servers, workers and partitions; times in ms, sizes in bytes."""
    totals = {
        "entries": overview.entries,
        "states": overview.states,
        "sealed_batches": overview.sealed_batches,
        "bytes": overview.bytes,
        "oldest_age_ms": overview.oldest_age_ms,
        "dead": sum(view.dead for view in overview.partitions),
        "lost": sum(view.lost for view in overview.partitions),
        "stored": sum(view.stored for view in overview.partitions),
        "unowned": len(overview.unowned),
        "full_in_s": overview.full_in_s,
    }
    return {
        "concerns": [asdict(concern) for concern in found],
        "totals": totals,
        "libopus": libopus_version(),
        "spool": None if spool is None else asdict(spool),
        "server": asdict(overview.server),
        **asdict(overview),
        "layouts": sorted(overview.layouts.numbers) if overview.layouts else None,
        "partitions": [asdict(view) | {"states": view.states} for view in overview.partitions],
    }
