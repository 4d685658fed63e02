"""A seal, for tests to change."""

from __future__ import annotations

from worker.model.seal import Seal

SEAL = Seal(
    object="chunks/u/c/1000.000.opus.enc",
    uid="u",
    conversation_id="c",
    start=1000.0,
    last_start=1015.1,
    sample_rate=16000,
    samples=320_000,
    protection="enhanced",
    codec="opus",
    trigger="end",
    entries=("1-0", "1-1", "12-0"),
    markers=("13-0",),
    silences={"12-0": 80_000},
)
