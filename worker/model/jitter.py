"""The default tolerance for timestamps, and how far apart the starts of blobs may be for readers."""

from __future__ import annotations

GAP_TOLERANCE = 2.0
"""Seconds by which timestamps may jitter: the default of the worker and of the archive."""

JOINED_STARTS = 90.0
"""Seconds from start to start up to which readers join blobs into one audio file."""
