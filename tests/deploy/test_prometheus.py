"""The Prometheus that tests start: what goes wrong with it is said, and nothing of it is left."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.deploy.prometheus import Prometheus

pytestmark = pytest.mark.prometheus

TAKEN = "Prometheus did not start: .*address already in use"


async def test_a_port_that_is_taken_is_told_at_once(tmp_path: Path) -> None:
    prometheus = Prometheus(tmp_path)
    host, port = prometheus._address.split(":")
    with socket.create_server((host, int(port))), pytest.raises(AssertionError, match=TAKEN):  # it never answers
        await prometheus.__aenter__()
    assert prometheus._process.returncode is not None


async def test_another_server_on_the_port_is_not_taken_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, other = tmp_path / "ours", tmp_path / "other"
    ours.mkdir()
    other.mkdir()
    async with Prometheus(other) as running:
        prometheus = Prometheus(ours)
        monkeypatch.setattr(prometheus, "_address", running._address)
        with pytest.raises(AssertionError, match=TAKEN):
            await prometheus.__aenter__()
