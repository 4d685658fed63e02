"""The command line, run inside the test's own process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typer.testing import CliRunner, Result

from worker.cli import app

if TYPE_CHECKING:
    from worker.settings import Settings

PASSED_ON = (
    "redis_url",
    "store_url",
    "partitions",
    "stream_prefix",
    "gap_tolerance",
    "storage_emulator_host",
    "spool_dir",
)


COLUMNS = "120"
"""The width of the terminal."""


def command(settings: Settings, *arguments: str, answer: str | None = None) -> Result:
    """Run one command in the environment that `settings` describe; `answer` is what a person types."""
    environment = {name.upper(): str(getattr(settings, name) or "") for name in PASSED_ON}
    environment |= {"ENCRYPTION_SECRET": settings.secret, "COLUMNS": COLUMNS}
    if old := settings.encryption_secrets_old.get_secret_value():
        environment["ENCRYPTION_SECRETS_OLD"] = old
    return CliRunner().invoke(app, arguments, input=answer, env=environment)
