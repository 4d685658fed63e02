"""Runs the fuzzer over all targets, or those that are named, one after another; the corpus grows from run to run."""

from __future__ import annotations

import argparse
import subprocess
import sys
from hashlib import sha1
from importlib.util import find_spec

from tests.support.paths import ROOT
from tests.tools.fuzz.targets import TARGETS, seeds

WORK = ROOT / ".fuzz"
REQUIREMENT = "atheris>=2.3"
LIMITS = ("-timeout=20", "-rss_limit_mb=2048", "-max_len=8192")
"""Seconds and megabytes that an input may take, and how long it may be; beyond is a finding."""


def main() -> int:
    """Returns how many targets were brought down."""
    arguments = _arguments()
    if find_spec("atheris") is None:
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", REQUIREMENT], check=True)
    brought_down = [target for target in arguments.targets if not _survives(target, arguments.seconds)]
    for target in brought_down:
        sys.stdout.write(f"{target} was brought down: see {WORK / target}/crash-*\n")
    return len(brought_down)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", default=list(TARGETS), metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    arguments = parser.parse_args()
    if unknown := set(arguments.targets) - set(TARGETS):
        parser.error(f"there is no target {', '.join(sorted(unknown))}: there are {', '.join(TARGETS)}")
    return arguments


def _survives(target: str, seconds: int) -> bool:
    corpus = WORK / target
    corpus.mkdir(parents=True, exist_ok=True)
    for seed in seeds()[target]:
        (corpus / sha1(seed, usedforsecurity=False).hexdigest()).write_bytes(seed)
    command = [sys.executable, "-m", "tests.tools.fuzz.one", target, str(corpus), f"-artifact_prefix={corpus}/"]
    sys.stdout.write(f"== {target}\n")
    sys.stdout.flush()
    return subprocess.run([*command, f"-max_total_time={seconds}", *LIMITS], cwd=ROOT, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
