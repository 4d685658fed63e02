"""The default tolerance for timestamps."""

from __future__ import annotations

GAP_TOLERANCE = 2.0
"""Seconds by which timestamps may jitter: the default of the worker and of the archive."""
