"""Hypothesis without a time limit per example: on a loaded machine it would fail for no fault of the code."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("codec", deadline=None)
settings.load_profile("codec")
