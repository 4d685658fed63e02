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
    open_browser: Annotated[
        bool, typer.Option("--open", help="Then open the page on what is stored, until Ctrl-C.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Push recorded speech through a Redis and a worker of its own, export it, and compare.

    Needs no service and leaves none running. Exits with 1 if anything did not come back exactly. The report in its
    directory has the original beside what came back, to hear and to see.
    """
    from worker.cli.demo_view import save_report, show
    from worker.demo.play import play
    from worker.demo.recordings import own, recorded
    from worker.runtime import logs

    logs.configure("warning", "console")

    def say(line: str) -> None:
        printing.say(line, err=True)

    recordings = own(wav, say) if wav else recorded()
    result = asyncio.run(play(recordings, out, say))
    save_report(result)
    if as_json:
        printing.print_json(_facts(result))
    else:
        show(result)
    if open_browser:
        _open_page(result)
    raise typer.Exit(0 if result.good else 1)


def _open_page(result: Result) -> None:
    """Serve the page for what the demo has stored, until Ctrl-C."""
    from pydantic import SecretStr

    from worker.cli import web
    from worker.demo.play import SECRET
    from worker.settings import Settings
    from worker.web.site import PageOptions

    settings = Settings.model_construct(store_url=result.store_url, encryption_secret=SecretStr(SECRET))
    asyncio.run(web.serve(settings, PageOptions(), None, web.LinkWriter(None, open_browser=True)))


def _facts(result: Result) -> dict[str, Any]:
    from worker.cli.demo_view import report_of

    return {
        "good": result.good,
        "libopus": result.libopus,
        "store_url": result.store_url,
        "push_seconds": round(result.push_seconds, 3),
        "work_seconds": round(result.work_seconds, 3),
        "left_entries": result.left_entries,
        "dead_letters": result.dead_letters,
        "events": result.events,
        "report": str(report_of(result)),
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
