"""What all examples run on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.examples.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.redis_server import RedisServer


@pytest.fixture
def stage(own_redis: Callable[..., RedisServer], tmp_path: Path) -> Stage:
    return Stage(own_redis(), tmp_path)
