"""The headline: what a realistic day takes, beside dense speech, the bare loop, and all audio encoded alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from statistics import fmean

from tests.tools.bench import libopus_builds, predecessor, quality
from tests.tools.bench.audio import spoken
from tests.tools.bench.cpu import COMPLEXITY, MINUTES_EACH, drain, start_cpu, stored_bytes
from tests.tools.bench.figures import Figure, Grid, Section, at_least, at_most
from tests.tools.bench.limit import Limit
from tests.tools.bench.scenes import DAY, day, speech_share
from tests.tools.bench.surroundings import Surroundings
from worker.settings import Settings

FIRST = 60_000_000
QUIET_COMPLEXITY: int = Settings.model_fields["opus_quiet_complexity"].default
LOW_BITRATE = 12_000

WAYS: Mapping[str, Mapping[str, object]] = {
    "default": {},
    f"OPUS_QUIET_BITRATE={LOW_BITRATE}": {"opus_quiet_bitrate": LOW_BITRATE},
    "before: all audio alike, voip": {"opus_quiet_complexity": COMPLEXITY, "opus_application": "voip"},
}
DEFAULT, LOW, BEFORE = WAYS
IMAGE = "default, the image's libopus for x86-64-v3"

SCORED = {
    DEFAULT: quality.Setting(COMPLEXITY, quiet_complexity=QUIET_COMPLEXITY),
    LOW: quality.Setting(COMPLEXITY, quiet_complexity=QUIET_COMPLEXITY, quiet_bitrate=LOW_BITRATE),
    BEFORE: quality.Setting(COMPLEXITY, application="voip"),
}


@dataclass(slots=True)
class Runs:
    """Of one kind of audio: CPU seconds per audio-minute by way, without the worker's start, and bytes stored."""

    cpu: dict[str, list[float]] = field(default_factory=dict)
    bytes: dict[str, float] = field(default_factory=dict)
    bare: list[float] = field(default_factory=list)

    def least(self, way: str) -> float:
        """The lowest run."""
        return min(self.cpu[way])


def measure(world: Surroundings, *, quick: bool) -> Section:
    """All ways in turn, so that what disturbs one disturbs all; then the quality of the parts with speech."""
    section = Section(f"A day of {len(DAY)} scenes, {speech_share():.0%} speech, beside dense speech")
    audio = {"day": b"".join(minute.pcm for minute in day()), "speech": spoken() * MINUTES_EACH}
    conversations = {"day": 1 if quick else 5, "speech": 3 if quick else 12}
    runs = {kind: Runs() for kind in audio}
    limit, start, ways = Limit(world.directory), start_cpu(world), _ways(world)
    if IMAGE not in ways:
        section.notes.append("the image's libopus was not measured: .ci/setup has built none that this processor runs")
    for turn in range(1 if quick else 3):
        for number, (kind, pcm) in enumerate(audio.items()):
            _turn(world, ways, pcm, conversations[kind], runs[kind], (2 * turn + number) * 100)
            runs[kind].bare.append(_bare(limit, pcm))
            for way in ways:
                runs[kind].cpu[way][-1] -= start / (conversations[kind] * _minutes(pcm))
    section.figures += _figures(runs["day"], runs["speech"])
    section.grids.append(_grid(runs))
    _score(section)
    return section


def _ways(world: Surroundings) -> Mapping[str, Mapping[str, object]]:
    path = libopus_builds.python_path(world.directory)
    return WAYS if path is None else {**WAYS, IMAGE: {"PYTHONPATH": path}}


def _minutes(pcm: bytes) -> int:
    return len(pcm) // len(spoken())


def _turn(
    world: Surroundings,
    ways: Mapping[str, Mapping[str, object]],
    pcm: bytes,
    conversations: int,
    runs: Runs,
    number: int,
) -> None:
    for at, (way, settings) in enumerate(ways.items()):
        first = FIRST + (number + at) * 1000
        drained = drain(world, pcm, conversations, first=first, settings=settings)
        runs.cpu.setdefault(way, []).append(drained.cpu)
        runs.bytes[way] = stored_bytes(world) / drained.minutes


def _bare(limit: Limit, pcm: bytes) -> float:
    size = len(spoken())
    return fmean(limit.encode(pcm[at : at + size], complexity=COMPLEXITY).cpu for at in range(0, len(pcm), size))


def _figures(realistic: Runs, dense: Runs) -> list[Figure]:
    return [
        Figure("day: worker / its way before", realistic.least(DEFAULT) / realistic.least(BEFORE), "x", at_most(0.72)),
        Figure("day: worker / bare loop", realistic.least(DEFAULT) / min(realistic.bare), "x"),
        Figure("day: worker, CPU per audio-minute", realistic.least(DEFAULT), "s", note="without its start"),
        Figure("day: sessions per core in real time", 60 / realistic.least(DEFAULT), ""),
        Figure("day: bytes per audio-minute", realistic.bytes[DEFAULT] / 1000, "kB"),
        Figure(
            f"day: bytes with OPUS_QUIET_BITRATE={LOW_BITRATE} / without",
            realistic.bytes[LOW] / realistic.bytes[DEFAULT],
        ),
        *_image_figures(realistic, dense),
        Figure("dense speech: worker / its way before", dense.least(DEFAULT) / dense.least(BEFORE), "x", at_most(1.01)),
    ]


def _image_figures(realistic: Runs, dense: Runs) -> list[Figure]:
    if IMAGE not in realistic.cpu:
        return []
    return [
        Figure(
            "day: worker with the image's libopus / its way before",
            realistic.least(IMAGE) / realistic.least(BEFORE),
            "x",
            at_most(0.66),
        ),
        Figure("day: image's libopus / portable", realistic.least(IMAGE) / realistic.least(DEFAULT), "x"),
        Figure("dense speech: image's libopus / portable", dense.least(IMAGE) / dense.least(DEFAULT), "x"),
    ]


def _grid(runs: Mapping[str, Runs]) -> Grid:
    rows: list[tuple[str | float, ...]] = []
    for kind, each in runs.items():
        rows.append((kind, "bare loop", min(each.bare), 1.0, ""))
        rows += [
            (kind, way, each.least(way), each.least(way) / min(each.bare), f"{each.bytes[way]:,.0f}")
            for way in each.cpu
        ]
    columns = (("audio", ""), ("way", ""), ("CPU s/min", ".3f"), ("/ bare loop", ".3f"), ("B/min", ""))
    return Grid("Workers without their start", columns, rows)


def _score(section: Section) -> None:
    if find_spec("pesq") is None:
        section.notes.append("the quality was not measured: the package pesq is not installed (pip install -e .[dev])")
        return
    scores = {way: quality.score_day(setting) for way, setting in SCORED.items()}
    full = quality.score_day(quality.Setting(COMPLEXITY))
    losses = [before - gated for before, gated in zip(full, scores[DEFAULT], strict=True)]
    section.figures += [Figure(f"day: WB-PESQ of speech, {way}", fmean(values)) for way, values in scores.items()]
    section.figures += [
        Figure("day: WB-PESQ that the quiet gate costs speech", fmean(losses), "", at_most(0.02)),
        Figure("day: the same, where it costs most", max(losses)),
    ]
    system = predecessor.system_libopus()
    if system is None:
        section.notes.append("there is no system libopus to compare with: apt-get install libopus0")
        return
    former = fmean(quality.score_day_elsewhere(system, quality.PREDECESSORS))
    section.figures += [
        Figure("day: WB-PESQ of speech, predecessor's", former, note="the system's libopus, voip at complexity 9"),
        Figure("day: WB-PESQ of speech: ours less the predecessor's", fmean(scores[DEFAULT]) - former, "", at_least(0)),
    ]
