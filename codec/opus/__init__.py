"""Opus: an incremental encoder from PCM to a container, and a decoder.

What libopus itself offers is in `codec.libopus`.
"""

from codec.opus.decoder import MAX_DECODED_SECONDS, decode
from codec.opus.effort import AS_SPEECH, Quiet
from codec.opus.encoder import Application, Encoder
from codec.opus.frames import FRAMES_PER_SECOND

__all__ = ["AS_SPEECH", "FRAMES_PER_SECOND", "MAX_DECODED_SECONDS", "Application", "Encoder", "Quiet", "decode"]
