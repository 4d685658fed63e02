"""Fuzzes one target: `python -m tests.tools.fuzz.one TARGET CORPUS`, followed by libFuzzer's options."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(
    include=[
        "codec",
        "worker.archive",
        "worker.stores",
        "worker.batching.batcher",
        "worker.batching.batch",
        "worker.model.seal",
    ]
):
    from tests.tools.fuzz.targets import TARGETS

if __name__ == "__main__":
    target = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()
