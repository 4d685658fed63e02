"""AMR: in a pause a phone writes frames that describe the noise, or are empty. FFmpeg does not decode these."""

from __future__ import annotations

FRAME_SECONDS = 0.02
SILENCE, NO_DATA = {"amrnb": 8, "amrwb": 9}, 15
"""Types of such frames (RFC 4867, section 4.3.1; SID and NO_DATA in 3GPP TS 26.101 and TS 26.201)."""


def is_pause(codec: str, frame: bytes) -> bool:
    """Whether a frame of AMR, with its header, says that nothing was spoken; `codec` is FFmpeg's name."""
    return codec in SILENCE and bool(frame) and frame[0] >> 3 & 15 in {SILENCE[codec], NO_DATA}
