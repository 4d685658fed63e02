from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from codec.libopus.scratch import Scratch

PAGE = os.sysconf("SC_PAGE_SIZE")

FORKED = """
import os
from codec.libopus.scratch import Scratch

scratch = Scratch(8)
if child := os.fork():
    os.waitpid(child, 0)
    print(bytes(scratch.view))
else:
    scratch.view[:] = b"of child"
    os._exit(0)
"""

UNTOUCHED = """
from pathlib import Path
from codec.libopus.scratch import Scratch

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1])

before = resident()
scratch = Scratch(1 << 30)
print(resident() - before)
"""


def output(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.strip()


def test_slots_are_whole_and_side_by_side() -> None:
    scratch = Scratch(10)
    assert len(scratch.slots(3)) == 3
    assert scratch.slots(3) is scratch.slots(3)


def test_threads_share_no_memory() -> None:
    scratch = Scratch(8)
    scratch.view[:] = b"of main."
    with ThreadPoolExecutor(1) as other:
        assert other.submit(lambda: bytes(scratch.view)).result() == bytes(8)


def test_processes_share_no_memory() -> None:
    assert output(FORKED) == repr(bytes(8))


def test_what_is_never_written_costs_no_memory() -> None:
    assert int(output(UNTOUCHED)) * PAGE < 1 << 20
