"""Which commands there are, and what a command imports."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from tests.support.paths import ROOT
from worker.cli import app
from worker.cli.commands import MODULES

MODULES_OF = """\
import sys
from worker.cli import main
sys.argv = ["audio-batch-worker", *sys.argv[1:]]
try:
    main()
finally:
    import worker.producer, worker.stores.gcs  # what a worker imports later, and what a pusher does
    print(*sys.modules, sep="\\n")
"""

NOT_FOR_RUN = {"numpy", "av", "soxr", "rich", "worker.archive", "worker.audio.reading", "worker.demo"}
"""Tens of megabytes that a worker would hold for weeks."""


def modules_after(*arguments: str) -> set[str]:
    variables = {name: value for name, value in os.environ.items() if name != "STORE_URL"}
    program = [sys.executable, "-c", MODULES_OF, *arguments]
    done = subprocess.run(program, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)
    assert "worker.cli" in done.stdout, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize("name", MODULES)
def test_every_command_is_found_by_its_name(name: str) -> None:
    shown = CliRunner().invoke(app, [name, "--help"])
    assert shown.exit_code == 0, shown.output
    assert f" {name} " in shown.output


def test_a_misspelt_command_is_told_what_was_meant() -> None:
    refused = CliRunner().invoke(app, ["exprot"])
    assert refused.exit_code == 2
    assert "Did you mean 'export'?" in refused.output


@pytest.mark.slow
def test_run_imports_no_other_command_and_nothing_that_only_they_need() -> None:
    loaded = modules_after("run")
    assert "worker.app" in loaded
    assert not loaded & NOT_FOR_RUN
    others = {f"worker.cli.{module}" for name, module in MODULES.items() if name != "run"}
    assert not loaded & others
