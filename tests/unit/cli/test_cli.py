"""The command line as a whole."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from codec.libopus import library
from tests.support.paths import ROOT
from worker import __version__, cli


def test_ctrl_c_before_the_command_begins_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "app", interrupted)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 130


def test_version_tells_which_libopus_encodes_and_where_it_is_from() -> None:
    lines = CliRunner().invoke(cli.app, ["--version"]).output.splitlines()
    assert lines[0] == __version__
    assert lines[1].startswith(f"{library().version}, from the ")
    assert (f"opuslib-next-bundled ({library().build} build)" in lines[1]) is (library().origin == "bundled")


@pytest.mark.parametrize("arguments", [(), ("ls",), ("streams",), ("streams", "move")], ids=" ".join)
def test_h_is_help(arguments: tuple[str, ...]) -> None:
    short, long = (CliRunner().invoke(cli.app, [*arguments, option]) for option in ("-h", "--help"))
    assert short.exit_code == 0
    assert short.output == long.output
    assert "Usage: " in short.output


@pytest.mark.slow
def test_shells_complete_commands_and_their_options() -> None:
    def completed(typed: str) -> list[str]:
        variables = {"_AUDIO_BATCH_WORKER_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": typed}
        program = "import sys; from worker.cli import main; sys.argv[0] = 'audio-batch-worker'; main()"
        environment = os.environ | variables
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return re.findall(r'"([\w-]+)":', done.stdout)

    assert completed("audio-batch-worker ex") == ["export"]
    assert completed("audio-batch-worker streams ") == ["ls", "move"]
    assert "--conversation" in completed("audio-batch-worker export --con")
