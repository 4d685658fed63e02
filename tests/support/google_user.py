"""Application Default Credentials of a person, whose tokens the test's GCS server gives."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.gcs.server import GcsServer


def log_in(server: GcsServer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let GOOGLE_APPLICATION_CREDENTIALS name a file in `folder` whose token endpoint is the server."""
    credentials = {
        "type": "authorized_user",
        "client_id": "id",
        "client_secret": "secret",
        "refresh_token": "refresh",
        "token_uri": f"{server.url}/token",
    }
    (folder / "credentials.json").write_text(json.dumps(credentials))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(folder / "credentials.json"))
