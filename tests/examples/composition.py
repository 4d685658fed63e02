"""A Docker Compose file without Docker: its services as processes of this machine, with its variables and volumes."""

from __future__ import annotations

import re
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tests.support.paths import ROOT
from tests.support.redis_server import free_port
from worker.demo.server import server_program

if TYPE_CHECKING:
    from collections.abc import Mapping

DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::(?P<kind>[-?])(?P<text>[^}]*))?\}")
PROGRAMS = {
    "audio-batch-worker": [sys.executable, "-m", "worker"],
    "python3": [sys.executable],
    "valkey-server": [server_program(), "--bind", "127.0.0.1", "--save", ""],
}
"""What an image has under these names, and what takes their place here."""


class Unset(Exception):
    """A variable must be given; the text is what Compose would say."""


@dataclass(frozen=True)
class Command:
    """One service as a process."""

    words: list[str]
    environment: dict[str, str]


@dataclass
class Composition:
    """A file's services; `variables` are those of the shell that starts them, `directory` gets their volumes."""

    file: Path
    directory: Path
    variables: Mapping[str, str]
    ports: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.services: dict[str, dict[str, Any]] = yaml.safe_load(self._interpolated())["services"]

    def port(self, name: str) -> int:
        """A port of this machine in place of "service:port"."""
        return self.ports.setdefault(name, free_port())

    def command(self, name: str) -> Command:
        """What a container of this service would run."""
        service = self.services[name]
        words = [*self._entrypoint(service), *map(str, self._list(service.get("command", [])))]
        program, *arguments = words
        volumes = self.volumes(service)
        place = [self._here(word, name, volumes) for word in arguments]
        environment = {
            key: self._here(str(text), name, volumes) for key, text in service.get("environment", {}).items()
        }
        if program == "valkey-server":
            place += ["--port", str(self.port("valkey:6379")), "--dir", volumes["/data"]]
        return Command([*PROGRAMS.get(program, [program]), *place], environment)

    def volumes(self, service: Mapping[str, Any]) -> dict[str, str]:
        """Path in the container → directory of this machine."""
        found = {}
        for volume in service.get("volumes", []):
            source, target, *_ = volume.split(":")
            here = self.file.parent / source if source.startswith(".") else self.directory / source
            if not source.startswith("."):
                here.mkdir(exist_ok=True)
            found[target] = str(here.resolve())
        return found

    def _here(self, text: str, name: str, volumes: Mapping[str, str]) -> str:
        for target, place in volumes.items():
            text = text.replace(f"file://{target}", f"file://{place}")
            text = place + text.removeprefix(target) if text.startswith(target) else text
        for port in self.services[name].get("ports", []):
            published, inside = port.split(":")
            assert published == inside
            text = str(self.port(f"{name}:{inside}")) if text == inside else text
        return re.sub(r"//(\w+):(\d+)", lambda found: f"//127.0.0.1:{self.port(f'{found[1]}:{found[2]}')}", text)

    def _entrypoint(self, service: Mapping[str, Any]) -> list[str]:
        if "entrypoint" in service:
            return self._list(service["entrypoint"])
        if service["image"] != "audio-batch-worker":
            return []
        (entrypoint,) = re.findall(r"^ENTRYPOINT (.+)$", DOCKERFILE, re.MULTILINE)
        return list(yaml.safe_load(entrypoint))

    def _list(self, words: str | list[str]) -> list[str]:
        return shlex.split(words) if isinstance(words, str) else words

    def _interpolated(self) -> str:
        def value(found: re.Match[str]) -> str:
            given = self.variables.get(found["name"], "")
            if not given and found["kind"] == "?":
                raise Unset(f"{found['name']}: {found['text']}")
            return given or (found["text"] or "")

        return VARIABLE.sub(value, self.file.read_text())
