"""What producers report, for tests that wait for it."""

from __future__ import annotations

import pytest

from tests.support.producing import Troubles


@pytest.fixture
def troubles() -> Troubles:
    return Troubles()
