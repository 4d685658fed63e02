"""The commands on the operators' pages: found, parsed as the command line parses them, and run beside a real worker."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import stat
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from tests.deploy.chart import CHART
from tests.support.paths import ROOT
from worker.cli import app

PAGES = sorted(CHART.glob("*.md"))
FENCE = re.compile(r"^( *)```sh\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
CALL = re.compile(r"^ *(?:abw|(?:\.venv/bin/)?audio-batch-worker)((?: +(?:\"[^\"\n]*\"|[\w./$-]+))+)", re.MULTILINE)

KUBECTL = """\
#!/bin/sh
# Stands for the cluster: a command in a pod runs here, and the logs of all pods are a file.
case "$*" in
    *" get deployment "*"-o name") echo deployment.apps/audio-batch-worker ;;
    *" get serviceaccount "*) echo audio-worker@my-project.iam.gserviceaccount.com ;;
    *" exec "*) while [ "$1" != -- ]; do shift; done; shift; exec "$@" ;;
    *" logs "*) cat "$WORKER_LOG" ;;
esac
"""
GCLOUD = """\
#!/bin/sh
# Stands for Google: the same logs as Cloud Logging has them, and policies without bindings.
case "$*" in
    "logging read "*json*)
        jq -sc 'map({timestamp: .time, resource: {labels: {pod_name: "p"}}, jsonPayload: .})' "$WORKER_LOG" ;;
    *get-iam-policy*) echo '{"bindings": [{"role": "roles/storage.objectUser", "members": ["user:a@example.com"]}]}' ;;
esac
"""
HELM = "#!/bin/sh\n"


@dataclass(frozen=True, slots=True)
class Block:
    """A block of shell commands on a page, below a heading."""

    page: str
    heading: str
    text: str


def blocks(page: Path) -> Iterator[Block]:
    """All of a page, in its order."""
    text = page.read_text()
    for found in FENCE.finditer(text):
        headings = re.findall(r"^#+ (.+)$", text[: found.start()], re.MULTILINE)
        yield Block(page.name, headings[-1], textwrap.dedent(found.group(1) + found.group(2)))


def calls(text: str) -> Iterator[list[str]]:
    """The arguments of each call of the worker's command line in a text."""
    for found in CALL.finditer(text):
        yield shlex.split(found.group(1))


def check_command(arguments: Sequence[str]) -> None:
    """Parse a command line without running it.

    Raises:
        typer.Exit, or an error of Typer's: there is no such command or option.
    """
    command, rest = typer.main.get_command(app), list(arguments)
    while hasattr(command, "commands") and rest:
        assert rest[0] in command.commands, f"no such command: {' '.join(arguments)}"
        command = command.commands[rest.pop(0)]
    command.make_context("command", rest)


class Cluster:
    """A directory with stand-ins for kubectl, gcloud and helm; commands in pods run on this machine."""

    def __init__(self, directory: Path, variables: Mapping[str, str], log: Sequence[str]) -> None:
        self._directory = directory
        (directory / "worker.log").write_text("".join(f"{line}\n" for line in log))
        tools = {"kubectl": KUBECTL, "gcloud": GCLOUD, "helm": HELM}
        for name, text in tools.items():
            (directory / name).write_text(text)
            (directory / name).chmod(stat.S_IRWXU)
        path = [str(directory), str(Path(sys.prefix) / "bin"), os.environ["PATH"]]
        self._environment = {
            **os.environ,
            **variables,
            "PATH": os.pathsep.join(path),
            "WORKER_LOG": str(directory / "worker.log"),
        }

    async def run(self, *texts: str) -> str:
        """Run these one after the other in one shell; what it said on standard error."""
        shell = await asyncio.create_subprocess_exec(
            "bash",
            "-uc",
            "\n".join(texts),
            cwd=self._directory,
            env=self._environment | {"PYTHONPATH": str(ROOT)},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        _, complaints = await shell.communicate()
        return complaints.decode()
