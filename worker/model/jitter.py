"""How far timestamps may be off."""

from __future__ import annotations

GAP_TOLERANCE = 2.0
"""Seconds by which timestamps jitter: the worker's default, and the archive's."""
