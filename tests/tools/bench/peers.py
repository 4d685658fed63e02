"""Tools that only encode files, beside our whole worker: the realistic day, in turns, at our bitrate and complexity.

They get raw PCM in a file and write Ogg Opus files of a minute. They read no Redis, and neither encrypt nor upload.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

from tests.tools.bench.audio import MINUTE_BYTES, RATE
from tests.tools.bench.cpu import COMPLEXITY, drain, start_cpu
from tests.tools.bench.figures import Figure, Grid, Section, Spread, at_most
from tests.tools.bench.processes import BenchFailed
from tests.tools.bench.scenes import day
from tests.tools.bench.surroundings import Surroundings

FIRST = 80_000_000
BITRATE = RATE + 3000
"""What libopus chooses for the worker."""
WORKER = "worker"
BY_HAND = "tests.tools.bench.peers"


@dataclass(frozen=True, slots=True)
class Peer:
    """A tool: one command for the whole day, or one for each minute; `needs` is a program, or a module."""

    name: str
    needs: str
    command: Sequence[str]
    minute_by_minute: bool = False

    @property
    def is_here(self) -> bool:
        """Whether it is installed."""
        return bool(shutil.which(self.needs) or find_spec(self.needs))


PEERS = (
    Peer(
        "ffmpeg, segment muxer",
        "ffmpeg",
        [
            *("ffmpeg", "-nostdin", "-loglevel", "error", "-threads", "1"),
            *("-f", "s16le", "-ar", str(RATE), "-ac", "1", "-i", "{pcm}"),
            *("-c:a", "libopus", "-b:a", str(BITRATE), "-application", "voip", "-compression_level", str(COMPLEXITY)),
            *("-f", "segment", "-segment_time", "60", "{out}-%03d.opus"),
        ],
    ),
    Peer(
        "opusenc",
        "opusenc",
        [
            *("opusenc", "--quiet", "--raw", "--raw-rate", str(RATE), "--raw-chan", "1", "--speech"),
            *("--bitrate", str(BITRATE / 1000), "--comp", str(COMPLEXITY), "{pcm}", "{out}.opus"),
        ],
        minute_by_minute=True,
    ),
    Peer("PyAV", "av", [sys.executable, "-m", BY_HAND, "{pcm}", "{out}"]),
)


@dataclass(slots=True)
class Turns:
    """CPU seconds per audio-minute by tool, and bytes per audio-minute."""

    cpu: dict[str, list[float]] = field(default_factory=dict)
    bytes: dict[str, float] = field(default_factory=dict)

    def add(self, name: str, cpu: float, size: float = 0) -> None:
        """One run."""
        self.cpu.setdefault(name, []).append(cpu)
        self.bytes[name] = size


def measure(world: Surroundings, *, quick: bool) -> Section:
    """All tools in turn, so that what disturbs one disturbs all."""
    section = Section(f"Tools that encode files, on the day of {len(day())} scenes")
    minutes = [minute.pcm for minute in day()]
    turns, start = Turns(), start_cpu(world)
    here = [peer for peer in PEERS if peer.is_here]
    section.notes += [f"{peer.name} was not measured: it is not installed" for peer in PEERS if peer not in here]
    for turn in range(1 if quick else 3):
        drained = drain(world, b"".join(minutes), 1 if quick else 3, first=FIRST + turn * 1000)
        turns.add(WORKER, drained.cpu - start / drained.minutes)
        for peer in here:
            turns.add(peer.name, *_encode(peer, minutes, world.directory))
    section.grids.append(_grid(turns))
    section.figures += _figures(turns)
    return section


def _figures(turns: Turns) -> list[Figure]:
    worker = Spread.of(turns.cpu[WORKER])
    return [
        Figure(f"day: worker / {name}", worker.least / min(cpu), "x", at_most(1.0))
        for name, cpu in turns.cpu.items()
        if name != WORKER
    ]


def _grid(turns: Turns) -> Grid:
    ours = min(turns.cpu[WORKER])
    rows: list[tuple[str | float, ...]] = [
        (name, min(cpu), ours / min(cpu), f"{turns.bytes[name]:,.0f}" if turns.bytes[name] else "")
        for name, cpu in turns.cpu.items()
    ]
    columns = (("tool", ""), ("CPU s/min", ".3f"), ("worker / tool", ".3f"), ("B/min", ""))
    return Grid("The worker without its start, the tools with theirs", columns, rows)


def _encode(peer: Peer, minutes: Sequence[bytes], directory: Path) -> tuple[float, float]:
    """CPU seconds and bytes per audio-minute."""
    target = directory / "peer"
    target.mkdir()
    cpu = 0.0
    for number, pcm in enumerate(minutes if peer.minute_by_minute else [b"".join(minutes)]):
        source = directory / "peer.pcm"
        source.write_bytes(pcm)
        cpu += _cpu(peer, {"pcm": str(source), "out": str(target / str(number))})
    size = sum(path.stat().st_size for path in target.iterdir())
    shutil.rmtree(target)
    return cpu / len(minutes), size / len(minutes)


def _cpu(peer: Peer, places: Mapping[str, str]) -> float:
    before = os.times()
    command = [word.format_map(places) if "{" in word else word for word in peer.command]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchFailed(f"{peer.name} failed: {done.stderr[-1000:]}")
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def _by_pyav(source: str, target: str) -> None:
    import av  # noqa: PLC0415 -- without it only this tool is missing

    pcm = Path(source).read_bytes()
    options = {"application": "voip", "compression_level": str(COMPLEXITY)}
    for number, at in enumerate(range(0, len(pcm), MINUTE_BYTES)):
        with av.open(f"{target}-{number:03}.opus", "w", format="ogg") as container:
            stream = container.add_stream("libopus", rate=RATE, layout="mono", options=options)
            stream.bit_rate = BITRATE
            frame = av.AudioFrame(format="s16", layout="mono", samples=len(pcm[at : at + MINUTE_BYTES]) // 2)
            frame.sample_rate, frame.time_base = RATE, Fraction(1, RATE)
            frame.planes[0].update(pcm[at : at + MINUTE_BYTES])
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))


if __name__ == "__main__":
    _by_pyav(*sys.argv[1:])
