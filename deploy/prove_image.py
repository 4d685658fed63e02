#!/usr/bin/env python3
"""Carries out deploy/Dockerfile without a container engine, in roots made by debootstrap.

    sudo deploy/prove_image.py [--keep DIRECTORY]

Every RUN, COPY and ENV line runs as written, in a chroot for its stage; then the last stage's user starts the entry
point on a read-only root. That proves the packages, the pins, the file layout and the user. It does not prove what
only an engine and a registry do: the base image's own content (debootstrap's minimal Debian stands in for it), how
layers are packed, the build cache, and the metadata of the image that is pushed.

Needs root, debootstrap and unshare.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
DOCKERFILE = TOP / "deploy" / "Dockerfile"
HOST_FILES = {
    "/etc/resolv.conf": "/etc/resolv.conf",
    "/etc/hosts": "/etc/hosts",
    "/etc/ssl/certs/ca-certificates.crt": "/run/host-certificates.crt",
}
"""What a container would get from its host, and the certificates with which this host reaches package mirrors."""

BUILD_ENVIRONMENT = {"DEBIAN_FRONTEND": "noninteractive", "PIP_CERT": "/run/host-certificates.crt"}

IMAGE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""What an image starts with."""


@dataclass
class Stage:
    """One FROM: its root, and the state that its lines change."""

    root: Path
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": IMAGE_PATH, "HOME": "/root"})
    workdir: str = "/"
    user: str = "0:0"
    entrypoint: list[str] = field(default_factory=list)


def instructions(text: str) -> list[tuple[str, str]]:
    """(instruction, arguments) in order; comments gone, continued lines joined."""
    kept = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(kept).replace("\\\n", " ")
    lines = [line.strip() for line in joined.splitlines() if line.strip()]
    return [(word.upper(), rest.strip()) for word, _, rest in (line.partition(" ") for line in lines)]


class Prover:
    """Runs the stages of a Dockerfile under one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.base = directory / "base"
        self._stages: dict[str, Stage] = {}
        self.last: Stage | None = None

    def run(self, lines: list[tuple[str, str]]) -> None:
        """Carry out all lines."""
        for word, rest in lines:
            sys.stdout.write(f"{word} {rest[:100]}\n")
            sys.stdout.flush()
            getattr(self, f"_{word.lower()}", self._nothing)(rest)

    def _nothing(self, rest: str) -> None:
        """ARG, EXPOSE, LABEL, STOPSIGNAL and CMD leave no trace in a root."""

    def _from(self, rest: str) -> None:
        if not self.base.exists():
            _make_base(self.base)
        name = rest.partition(" AS ")[2] or "final"
        root = self._directory / name
        subprocess.run(["cp", "-a", "--reflink=auto", self.base, root], check=True)
        self.last = self._stages[name] = Stage(root)

    def _run(self, rest: str) -> None:
        enter(self._stage, ["/bin/sh", "-euc", rest], user="0:0")

    def _copy(self, rest: str) -> None:
        *sources, target = shlex.split(rest)
        source_root = TOP
        if sources[0].startswith("--from="):
            source_root = self._stages[sources.pop(0).removeprefix("--from=")].root
        for source in sources:
            _copy(source_root / source.lstrip("/"), self._stage.root / target.lstrip("/"), target.endswith("/"))

    def _env(self, rest: str) -> None:
        for pair in shlex.split(rest):
            name, _, value = pair.partition("=")
            self._stage.environment[name] = value

    def _workdir(self, rest: str) -> None:
        self._stage.workdir = rest

    def _user(self, rest: str) -> None:
        self._stage.user = rest

    def _entrypoint(self, rest: str) -> None:
        self._stage.entrypoint = json.loads(rest)

    @property
    def _stage(self) -> Stage:
        if self.last is None:
            raise SystemExit("the Dockerfile does not start with FROM")
        return self.last


def enter(stage: Stage, command: list[str], *, user: str, read_only: bool = False) -> str:
    """Run a command in the stage's root, in its own mount and process namespaces, and return what it printed.

    Raises:
        SystemExit: the command failed; its output is shown.
    """
    root = shlex.quote(str(stage.root))
    mounts = [f"mount --bind {root} {root}", f"mount -t proc proc {root}/proc"]
    mounts += [f"mount --bind /dev {root}/dev", f"mount -t tmpfs tmpfs {root}/tmp"]
    mounts += [f"mount --bind {here} {root}{there}" for here, there in HOST_FILES.items() if not read_only]
    mounts += [f"mount -o remount,ro,bind {root} {root}"] if read_only else []
    settings = stage.environment if read_only else stage.environment | BUILD_ENVIRONMENT
    variables = [f"{name}={value}" for name, value in settings.items()]
    inside = shlex.join(["/bin/sh", "-c", f"cd {stage.workdir} && exec {shlex.join(command)}"])
    script = " && ".join([*mounts, f"exec chroot --userspec={user} {root} env -i {shlex.join(variables)} {inside}"])
    done = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "/bin/sh", "-c", script],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{shlex.join(command)[:200]} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def _make_base(root: Path) -> None:
    command = ["debootstrap", "--variant=minbase", "trixie", str(root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"debootstrap failed:\n{done.stdout[-2000:]}{done.stderr}")
    # As in Debian's own image: apt keeps neither packages nor its index of them.
    shutil.rmtree(root / "var/cache/apt/archives")
    (root / "etc/apt/apt.conf.d/docker-clean").write_text(
        'APT::Keep-Downloaded-Packages "false";\nDir::Cache::pkgcache "";\nDir::Cache::srcpkgcache "";\n'
        'DPkg::Post-Invoke {"rm -f /var/cache/apt/archives/*.deb";};\n'
    )
    for name in HOST_FILES.values():
        (root / name.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
        (root / name.lstrip("/")).touch()


def _copy(source: Path, target: Path, into: bool) -> None:
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        return
    target = target / source.name if into else target
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target)


CHECKS = (
    ("the user is not root", ["/bin/sh", "-c", "test $(id -u) -ne 0 && id"]),
    (
        "the root can't be written",
        ["/bin/sh", "-c", "! touch /opt/venv/x /etc/x 2>/dev/null && touch /tmp/x && echo ok"],
    ),
    ("libopus is the one for this processor", ["audio-batch-worker", "--version"]),
    (
        "no tests of packages",
        ["/bin/sh", "-c", "! find /opt/venv -type d -name tests | grep . && echo ok"],
    ),
    ("no pip, no compiler", ["/bin/sh", "-c", "! command -v pip && ! command -v cc && echo ok"]),
    ("the helm test's tools are there", ["/bin/sh", "-c", "command -v python3 date grep mktemp sleep"]),
)


def check(stage: Stage, base: Path) -> None:
    """The last stage as Kubernetes would run it."""
    for what, command in (("the entry point answers", [*stage.entrypoint, "--version"]), *CHECKS):
        printed = enter(stage, command, user=stage.user, read_only=True)
        sys.stdout.write(f"proved: {what}: {printed.strip().splitlines()[-1]}\n")
    sys.stdout.write(f"proved: the last stage has {_megabytes(stage.root)} MB, {_megabytes(base)} of them the base\n")


def _megabytes(root: Path) -> int:
    return int(subprocess.run(["du", "-sxm", root], capture_output=True, text=True, check=True).stdout.split()[0])


def main() -> None:
    """Build in a temporary directory, or in one that stays for a look around."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--keep", type=Path, metavar="DIRECTORY", help="build here and leave it")
    directory: Path | None = parser.parse_args().keep
    if os.geteuid() != 0 or not shutil.which("debootstrap"):
        raise SystemExit("needs root and debootstrap (apt-get install debootstrap)")
    with tempfile.TemporaryDirectory(prefix="prove-image-") as temporary:
        prover = Prover(directory or Path(temporary))
        prover.run(instructions(DOCKERFILE.read_text()))
        if prover.last:
            check(prover.last, prover.base)


if __name__ == "__main__":
    main()
