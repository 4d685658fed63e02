"""What complexity, bitrate and DTX cost in CPU and bytes, and what they give in quality: wide-band PESQ of speech.

Needs the package pesq. The reference is what the predecessor does: libopus 1.3.1 at its default, complexity 9.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from time import thread_time
from typing import Any

import numpy as np
from numpy.typing import NDArray

import codec.libopus
from codec.opus import Application, Encoder, decode
from codec.opus.effort import Quiet
from tests.support.paths import ROOT
from tests.support.speech import speech
from tests.tools.bench import predecessor
from tests.tools.bench.audio import RATE
from tests.tools.bench.cpu import COMPLEXITY
from tests.tools.bench.figures import Figure, Grid, Section, at_least
from tests.tools.bench.scenes import day

SECONDS = 24
REPEATS = 2
ALIGNMENTS = (0, 400, 800)
"""Samples cut off the front. PESQ aligns by itself and fails now and then; the best of three is true."""


@dataclass(frozen=True, slots=True)
class Setting:
    """How to encode."""

    complexity: int
    bitrate: int | None = None
    dtx: bool = False
    application: Application = "audio"
    quiet_complexity: int | None = None
    quiet_bitrate: int | None = None

    def encoder(self) -> Encoder:
        """A new one."""
        quiet = Quiet(self.quiet_complexity, self.quiet_bitrate)
        return Encoder(
            RATE,
            complexity=self.complexity,
            bitrate=self.bitrate,
            dtx=self.dtx,
            application=self.application,
            quiet=quiet,
        )


PREDECESSORS = Setting(9, application="voip")


@dataclass(frozen=True, slots=True)
class Quality:
    """CPU seconds and bytes per audio-minute, and the score: 1 is bad, 4.64 the same as the original."""

    cpu: float
    bytes: float
    pesq: float


def measure(*, quick: bool) -> Section:
    """Every setting on the same speech."""
    section = Section("Quality")
    if find_spec("pesq") is None:
        section.notes.append("not measured: the package pesq is not installed (pip install -e .[dev])")
        return section
    found = {setting: score(setting) for setting in _settings(quick=quick)}
    section.grids.append(_grid(found))
    system = predecessor.system_libopus()
    if system is None:
        section.notes.append("there is no system libopus to compare with: apt-get install libopus0")
        return section
    former, ours = _score_elsewhere(system, PREDECESSORS), found[Setting(COMPLEXITY)]
    section.figures += [
        Figure("WB-PESQ at the default", ours.pesq, "", note=f"complexity {COMPLEXITY}"),
        Figure("WB-PESQ of the predecessor's", former.pesq, "", note="the system's libopus, voip at complexity 9"),
        Figure("WB-PESQ: ours less the predecessor's", ours.pesq - former.pesq, "", at_least(0)),
    ]
    return section


def score(setting: Setting) -> Quality:
    """Encode, decode and compare."""
    pcm, best, container, pre_skip = speech(SECONDS, RATE), float("inf"), b"", 0
    for _ in range(REPEATS):
        began = thread_time()
        encoder = setting.encoder()
        encoder.encode(pcm)
        pre_skip, container = encoder.pre_skip, encoder.finish()
        best = min(best, thread_time() - began)
    decoded = decode(container, pre_skip=pre_skip, samples=len(pcm) // 2)
    per_minute = 60 / SECONDS
    return Quality(
        best * per_minute, len(container) * per_minute, _pesq(np.frombuffer(pcm, "<i2"), np.frombuffer(decoded, "<i2"))
    )


def score_day(setting: Setting) -> list[float]:
    """The scores of all parts of the day in which somebody speaks."""
    scores = []
    for minute in day():
        encoder = setting.encoder()
        encoder.encode(minute.pcm)
        pre_skip, container = encoder.pre_skip, encoder.finish()
        decoded = np.frombuffer(decode(container, pre_skip=pre_skip, samples=len(minute.samples)), "<i2")
        for span in minute.scene.spans:
            part = slice(round(span.start * RATE), round((span.start + span.seconds) * RATE))
            scores.append(max(_pesq(minute.samples[part][cut:], decoded[part][cut:]) for cut in ALIGNMENTS))
    return scores


def score_day_elsewhere(libopus: str, setting: Setting) -> list[float]:
    """The same with another library."""
    scores: list[float] = _elsewhere("day", libopus, setting)
    return scores


def _pesq(original: NDArray[np.int16], decoded: NDArray[np.int16]) -> float:
    from pesq import pesq  # noqa: PLC0415 -- without it only this part is missing

    return float(pesq(RATE, original, decoded, "wb"))


def _settings(*, quick: bool) -> Iterator[Setting]:
    for complexity in (5, COMPLEXITY) if quick else (0, 3, 5, 6, 7, 8, 9, 10):
        yield Setting(complexity)
    for bitrate in () if quick else (12_000, 16_000, 24_000, 32_000):
        for complexity in (5, COMPLEXITY, 9):
            yield Setting(complexity, bitrate)
    for complexity in (COMPLEXITY,) if quick else (5, COMPLEXITY, 9):
        yield Setting(complexity, dtx=True)
    yield Setting(COMPLEXITY, application="voip")
    if not quick:
        yield Setting(COMPLEXITY, 16_000, dtx=True)


def _grid(found: dict[Setting, Quality]) -> Grid:
    rows: list[tuple[str | float, ...]] = [
        (
            float(setting.complexity),
            "libopus' choice" if setting.bitrate is None else f"{setting.bitrate / 1000:.0f} kb/s",
            "on" if setting.dtx else "off",
            setting.application,
            quality.cpu,
            quality.bytes / 1000,
            quality.pesq,
        )
        for setting, quality in found.items()
    ]
    columns = (
        ("complexity", ".0f"),
        ("bitrate", ""),
        ("DTX", ""),
        ("application", ""),
        ("CPU s/min", ".3f"),
        ("kB/min", ".0f"),
        ("WB-PESQ", ".3f"),
    )
    return Grid("Speech at 16 kHz", columns, rows)


def _score_elsewhere(libopus: str, setting: Setting) -> Quality:
    return Quality(**_elsewhere("speech", libopus, setting))


def _elsewhere(what: str, libopus: str, setting: Setting) -> Any:
    """Score with another library, of which a process can have only one."""
    command = [sys.executable, "-m", "tests.tools.bench.quality", what, libopus, json.dumps(asdict(setting))]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def _main() -> None:
    what, libopus, fields = sys.argv[1:]
    codec.libopus._bundled_builds = lambda: {libopus: libopus}
    setting = Setting(**json.loads(fields))
    print(json.dumps(score_day(setting) if what == "day" else asdict(score(setting))))  # noqa: T201 -- its interface


if __name__ == "__main__":
    _main()
