"""`demo`: the whole system on this machine, with recordings to listen to."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli import options, printing

if TYPE_CHECKING:
    from worker.demo.play import Played, Result


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo")(demo)


def demo(
    out: Annotated[Path, typer.Option("--out", help="A new directory, or one that an earlier demo made.")] = Path(
        "demo-out"
    ),
    wav: Annotated[
        Path | None, typer.Option("--wav", help="Your own recording, in any format that `push` takes.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Push recorded speech through a Redis and a worker of its own, export it, and compare.

    Needs no service and leaves none running. Exits with 1 if anything did not come back exactly.
    """
    from worker.demo.play import play
    from worker.demo.recordings import own, recorded
    from worker.runtime import logs

    logs.configure("warning", "console")

    def say(line: str) -> None:
        printing.say(line, err=True)

    recordings = own(wav, say) if wav else recorded()
    result = asyncio.run(play(recordings, out, say))
    if as_json:
        printing.print_json(_facts(result))
    else:
        from worker.cli.demo_view import show

        show(result)
    raise typer.Exit(0 if result.good else 1)


def _facts(result: Result) -> dict[str, Any]:
    return {
        "good": result.good,
        "libopus": result.libopus,
        "store_url": result.store_url,
        "push_seconds": round(result.push_seconds, 3),
        "work_seconds": round(result.work_seconds, 3),
        "left_entries": result.left_entries,
        "dead_letters": result.dead_letters,
        "events": result.events,
        "conversations": [_conversation(played) for played in result.played],
    }


def _conversation(played: Played) -> dict[str, Any]:
    recording, fidelity = played.recording, played.fidelity
    return {
        "conversation_id": recording.conversation_id,
        "sample_rate": recording.sample_rate,
        "protection": recording.protection,
        "pushed_seconds": recording.seconds,
        "pushed_bytes": len(recording.pcm),
        "pushed_samples": fidelity.pushed_samples,
        "exported_samples": fidelity.heard_samples,
        "lag_samples": list(fidelity.lags),
        "measure": fidelity.measure,
        "score": fidelity.score,
        "stored_bytes": played.stored_bytes,
        "blobs": [{"name": b.path, "seconds": b.duration, "bytes": b.info.size} for b in played.blobs],
        "wav": str(played.wav),
    }
