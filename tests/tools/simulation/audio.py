"""Audio that tells by itself which chunk it is: every sample of a chunk is the chunk's number; silence is 0."""

from __future__ import annotations

from array import array


def numbered(number: int, samples: int) -> bytes:
    """The PCM of chunk `number`, from 1."""
    return array("h", [number]).tobytes() * samples


def numbers_in(pcm: bytes, samples: int) -> list[int]:
    """The chunks that PCM holds, silence left out.

    Raises:
        ValueError: a chunk is not there in one whole piece.
    """
    values = array("h", pcm)
    found, at = [], 0
    while at < len(values):
        number = values[at]
        if number == 0:
            at += 1
            continue
        if values[at : at + samples] != array("h", [number]) * samples:
            raise ValueError(f"chunk {number} is torn at sample {at}")
        found.append(number)
        at += samples
    return found
