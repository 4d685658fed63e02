"""The demo's report: one file with the audio itself, for a browser without a server."""

from __future__ import annotations

import base64
import wave
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

from codec.entry import BYTES_PER_SAMPLE
from worker.audio.writing.wav import wav_header
from worker.demo import pictures

NAME = "report.html"
HEARD_SECONDS = 30.0
"""Seconds of each recording that the report holds: a file of a few megabytes."""

POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"
STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 0 auto; padding: 1rem; }
figure { margin: 0 0 1.5rem; } figcaption { font-weight: 600; }
audio, img, svg { display: block; width: 100%; margin: .25rem 0; }
img { height: 8rem; } svg { height: 4rem; fill: #2f6fde; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); gap: 1rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; } th, td { padding: .25rem .75rem; text-align: end; }
th:first-child { text-align: start; } tr { border-top: 1px solid #8886; }
"""


class HeardAudio(NamedTuple):
    """A recording before and after, as s16le mono PCM at `sample_rate` Hz."""

    name: str
    sample_rate: int
    original: bytes
    decoded: bytes


def write_report(path: Path, heard: Sequence[HeardAudio], rows: Mapping[str, Sequence[str]]) -> None:
    """Write the report; `rows` are those of the demo's table, a cell per recording. Raises OSError."""
    path.write_text("".join(_document(heard, rows)), "utf-8")


def decoded_pcm(wav: Path) -> bytes:
    """The PCM of an exported WAV, as much as the report holds."""
    with wave.open(str(wav), "rb") as file:
        return file.readframes(round(HEARD_SECONDS * file.getframerate()))


def _document(heard: Sequence[HeardAudio], rows: Mapping[str, Sequence[str]]) -> Iterator[str]:
    yield '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>audio-batch-worker: the demo</title>'
    yield f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<style>{STYLE}</style></head><body><main><h1>What was pushed, and what came back</h1>"
    yield f"<p>The first {HEARD_SECONDS:.0f} seconds of each recording, to compare by ear and by eye."
    yield " This file needs no server and loads nothing.</p>"
    yield from _table([audio.name for audio in heard], rows)
    for audio in heard:
        yield f'<h2>{escape(audio.name)}</h2><div class="pair">'
        yield from _figure(f"{audio.name}: pushed", audio.original, audio.sample_rate)
        yield from _figure(f"{audio.name}: stored and read back", audio.decoded, audio.sample_rate)
        yield "</div>"
    yield "</main></body></html>\n"


def _table(names: Sequence[str], rows: Mapping[str, Sequence[str]]) -> Iterator[str]:
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    yield '<div class="scroll" tabindex="0"><table><thead><tr><th scope="col">conversation</th>'
    yield f"{heads}</tr></thead><tbody>"
    for label, cells in rows.items():
        row = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        yield f'<tr><th scope="row">{escape(label)}</th>{row}</tr>'
    yield "</tbody></table></div>"


def _figure(title: str, pcm: bytes, sample_rate: int) -> Iterator[str]:
    pcm = pcm[: round(HEARD_SECONDS * sample_rate) * BYTES_PER_SAMPLE]
    seconds = len(pcm) / BYTES_PER_SAMPLE / sample_rate
    name = escape(title)
    sound = _data("audio/wav", wav_header(sample_rate, len(pcm)) + pcm)
    picture = _data("image/png", pictures.spectrogram(pcm))
    box = f"0 0 {pictures.width_of_waveform(seconds)} 256"
    yield f'<figure><figcaption>{name}</figcaption><audio controls src="{sound}" aria-label="{name}"></audio>'
    yield f'<svg viewBox="{box}" preserveAspectRatio="none" role="img" aria-label="Waveform of {name}">'
    yield f'<polygon points="{pictures.waveform(pcm, sample_rate)}"/></svg>'
    yield f'<img alt="Spectrogram of {name}, up to {sample_rate // 2000} kHz" src="{picture}"></figure>'


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
