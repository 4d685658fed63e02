"""The output of `demo`: the pushed audio, the stored blobs, how well it came back, and the files to listen to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from worker.cli.text import shown_bytes
from worker.demo.play import SECRET, UID, Played, Result
from worker.demo.report import NAME, HeardAudio, decoded_pcm, write_report

MEASURES = {
    "WB-PESQ": "WB-PESQ: ITU-T P.862.2 on 8-second slices; 4.64 is the original itself.",
    "NB-PESQ": "NB-PESQ: ITU-T P.862 on 8-second slices, for 8 kHz; 4.55 is the original itself.",
    "spectral distance": "spectral distance: how far the levels of 17 frequency bands are off in speech.",
}
NO_PESQ = "PESQ says more, but is not installed here: after `make setup` the demo gives it instead."


def show(result: Result) -> None:
    """Print the result."""
    console = Console(highlight=False, soft_wrap=True)
    console.print(_conversations(result), _blobs(result), sep="\n")
    for line in _notes(result):
        console.print(line, style="dim", markup=False)
    console.print(_verdict(result), style="bold green" if result.good else "bold red", markup=False)
    console.print("\nListen:")
    for played in result.played:
        console.print(f"  {played.wav}", markup=False)
    console.print("Look further:")
    console.print(f"  export STORE_URL={result.store_url} ENCRYPTION_SECRET='{SECRET}'", markup=False)
    console.print(f"  {_program()} ls --uid {UID}", markup=False)
    console.print(f"  {_program()} web --open", markup=False)
    console.print(f"Hear and see the original beside what came back:\n  {report_of(result).as_uri()}", markup=False)


def save_report(result: Result) -> None:
    """Write a page with the audio in it beside the recordings. Raises OSError."""
    heard = [_heard(played) for played in result.played]
    write_report(report_of(result), heard, {label: [*map(cell, result.played)] for label, cell in ROWS.items()})


def _heard(played: Played) -> HeardAudio:
    recording = played.recording
    return HeardAudio(recording.conversation_id, recording.sample_rate, recording.pcm, decoded_pcm(played.wav))


def report_of(result: Result) -> Path:
    """Where the report is."""
    return result.directory.resolve() / NAME


def _conversations(result: Result) -> Table:
    """A column per conversation, so that the table fits into a narrow window."""
    table = _table("conversation", *(played.recording.conversation_id for played in result.played))
    for label, cell in ROWS.items():
        table.add_row(label, *map(cell, result.played))
    return table


def _blobs(result: Result) -> Table:
    table = _table("blob", "audio", "size")
    for played in result.played:
        for blob in played.blobs:
            audio = "?" if blob.duration is None else f"{blob.duration:.2f} s"
            table.add_row(blob.path, audio, shown_bytes(blob.info.size))
    return table


def _notes(result: Result) -> list[str]:
    measures = sorted({played.fidelity.measure for played in result.played}, reverse=True)
    lag = "lag: samples by which a blob's audio comes late, where its cross-correlation with the original peaks."
    return [lag, *(MEASURES[measure] for measure in measures), *([NO_PESQ] if "spectral distance" in measures else [])]


def _verdict(result: Result) -> str:
    left = f"Redis still holds {result.left_entries} entries and {result.dead_letters} dead letters"
    if result.good:
        return f"\nEvery sample came back at its place. {left}, and {result.events} done events for the backend."
    return f"\nNot everything came back as it should. {left}; the worker's log is {result.directory / 'worker.log'}"


def _stored(played: Played) -> str:
    count = len(played.blobs)
    return f"{count} blob{'' if count == 1 else 's'}, {shown_bytes(played.stored_bytes)}"


def _smaller(played: Played) -> str:
    return f"{len(played.recording.pcm) / played.stored_bytes:.1f}x" if played.stored_bytes else "-"


def _samples(played: Played) -> str:
    fidelity = played.fidelity
    if fidelity.pushed_samples == fidelity.heard_samples:
        return f"all {fidelity.pushed_samples:,}"
    return f"{fidelity.heard_samples:,} of {fidelity.pushed_samples:,}"


def _score(played: Played) -> str:
    fidelity = played.fidelity
    if fidelity.score is None:
        return "silent or too short"
    if fidelity.measure == "spectral distance":
        return f"{fidelity.score:.1f} dB off"
    return f"{fidelity.measure} {fidelity.score:.2f}"


ROWS: Mapping[str, Callable[[Played], str]] = {
    "recorded at": lambda played: f"{played.recording.sample_rate / 1000:g} kHz",
    "protection": lambda played: played.recording.protection,
    "pushed": lambda played: f"{played.recording.seconds:.0f} s, {shown_bytes(len(played.recording.pcm))}",
    "stored": _stored,
    "smaller": _smaller,
    "samples back": _samples,
    "lag per blob": lambda played: ", ".join(str(lag) for lag in played.fidelity.lags) or "-",
    "quality": _score,
}


def _program() -> str:
    installed = Path(".venv/bin/audio-batch-worker")
    return str(installed) if installed.exists() else "audio-batch-worker"


def _table(first: str, *columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column(first, no_wrap=True)
    for column in columns:
        table.add_column(column, no_wrap=True, justify="right")
    return table
