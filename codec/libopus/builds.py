"""The builds of one libopus that lie beside each other, and which of them the processor can run.

The wheel brings the portable one. deploy/build_libopus.sh adds the same source, built for x86-64-v3.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PORTABLE = "portable"
X86_64_V3 = "x86-64-v3"
CPU_FACTS = Path("/proc/cpuinfo")
LIBRARY_NAMES = ("libopus.so", "libopus.dylib", "opus.dll")

X86_64_V3_FLAGS = frozenset(
    {"cx16", "lahf_lm", "popcnt", "pni", "ssse3", "sse4_1", "sse4_2"}
    | {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"}
)
"""The levels 2 and 3 of the x86-64 psABI, as Linux names them: `pni` is SSE3, `abm` has LZCNT. Linux leaves out `avx`
and what needs it where the system does not save these registers."""


def fitting_builds(folder: Path, cpu_facts: Path = CPU_FACTS) -> Iterator[tuple[str, Path]]:
    """Names and paths of the builds in a folder that run here, the fastest first.

    `cpu_facts` is a file such as /proc/cpuinfo. Where there is none, only the portable build fits.
    """
    special = folder / X86_64_V3 / LIBRARY_NAMES[0]
    if special.is_file() and _cpu_flags(cpu_facts) >= X86_64_V3_FLAGS:
        yield X86_64_V3, special
    yield from ((PORTABLE, folder / name) for name in LIBRARY_NAMES if (folder / name).is_file())


def _cpu_flags(cpu_facts: Path) -> frozenset[str]:
    """Of the first processor."""
    try:
        lines = cpu_facts.read_text().splitlines()
    except OSError:
        return frozenset()
    return next((frozenset(line.split()[2:]) for line in lines if line.startswith("flags\t")), frozenset())
