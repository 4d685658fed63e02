"""Where the checkout is, in which programs of their own start."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
