"""The secret of all settings that tests make."""

from __future__ import annotations

TEST_SECRET = "a test's secret of thirty-two bytes or more"
