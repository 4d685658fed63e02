"""The extras: what needs one says which, and everything else works without it."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from typing import TYPE_CHECKING

import pytest

from tests.support.paths import ROOT
from tests.support.secret import TEST_SECRET
from tests.support.speech import speech
from tests.support.stored_blobs import T0, ConversationFolder
from worker.runtime.extras import MODULES
from worker.stores import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

FOUND = {"opuslib"}
"""It is looked for by its name."""

BASE = {"google_crc32c", "redis", "structlog"}
"""What a bare install brings, for pushers."""

WITHOUT = """\
import runpy, sys
missing, *sys.argv = sys.argv[1:]
sys.modules |= dict.fromkeys(missing.split(","))  # Python's own way to say that a module is not to be had
runpy.run_module("worker", run_name="__main__", alter_sys=True)
"""


def run_without(modules: set[str], *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A command where these modules are not installed."""
    command = [sys.executable, "-c", WITHOUT, ",".join(sorted(modules)), "audio-batch-worker", *arguments]
    environment = os.environ | {"ENCRYPTION_SECRET": TEST_SECRET, "COLUMNS": "200"} | variables
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def distributions(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=~!; ]", each, maxsplit=1)[0] for each in requirements} - {"audio-batch-worker"}


def third_party(package: str) -> Iterator[str]:
    """The modules that a package of ours imports at run time, from packages of others."""
    for file in (ROOT / package).rglob("*.py"):
        tree = ast.parse(file.read_text())
        for_types = {
            inner for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
            for inner in ast.walk(node)
        }  # fmt: skip
        for node in ast.walk(tree):
            if node not in for_types and isinstance(node, ast.Import | ast.ImportFrom):
                names = [each.name for each in node.names] if isinstance(node, ast.Import) else [node.module or ""]
                yield from {name.partition(".")[0] for name in names} - sys.stdlib_module_names


@pytest.fixture
def stored(tmp_path: Path) -> dict[str, str]:
    return {"STORE_URL": (tmp_path / "store").as_uri()}


@pytest.fixture
async def conversation(stored: dict[str, str]) -> None:
    store = open_store(stored["STORE_URL"])
    await ConversationFolder(store).put(".opus.enc", T0, speech(2), described=True)
    await store.close()


def test_the_extras_bring_what_is_imported_and_nothing_else() -> None:
    found = {*third_party("worker"), *third_party("codec")} - {"worker", "codec", "audio_batch_worker", "pesq"}
    assert found == BASE.union(*MODULES.values()) - FOUND


def test_each_module_comes_with_the_extra_that_is_named() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    installed = {
        module: {name.lower().replace("_", "-") for name in names} for module, names in packages_distributions().items()
    }
    for extra, modules in MODULES.items():
        declared = distributions(extras[extra]) - {"opuslib-next-bundled"}  # it is found, not imported
        brought = {name for module in modules for name in installed[module]}
        assert declared <= brought, extra
        assert all(installed[module] & declared or module == "pydantic" for module in modules), extra


def test_a_bare_install_says_what_the_command_line_needs() -> None:
    refused = run_without(MODULES["worker"] | MODULES["audio"], "--help")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == (
        "audio-batch-worker: the Python package typer is missing, which this needs:"
        " pip install 'audio-batch-worker[worker]'\n"
    )


@pytest.mark.parametrize("package", ["producer", "events"])
def test_pushers_and_readers_of_events_need_no_extra(package: str) -> None:
    program = f"import sys; sys.modules |= dict.fromkeys({set().union(*MODULES.values())}); import worker.{package}"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


@pytest.mark.parametrize(
    "arguments",
    [
        ("push", "speech.wav", "--uid", "u", "--conversation", "c"),
        ("convert", "--all"),
        ("export", "--uid", "user", "--conversation", "talk", "-o", "{}/out.flac"),
    ],
    ids=lambda arguments: arguments[0],
)
@pytest.mark.usefixtures("conversation")
def test_a_command_that_needs_the_audio_libraries_says_how_to_get_them(
    arguments: tuple[str, ...], stored: dict[str, str], tmp_path: Path
) -> None:
    refused = run_without(MODULES["audio"], *(each.format(tmp_path) for each in arguments), **stored)
    assert refused.returncode == 1
    assert re.fullmatch(
        r"audio-batch-worker: the Python package \w+ is missing, which this needs:"
        r" pip install 'audio-batch-worker\[audio\]'",
        refused.stderr.splitlines()[-1],
    )


@pytest.mark.parametrize("suffix", ["wav", "ogg"])
@pytest.mark.usefixtures("conversation")
def test_the_worker_exports_and_verifies_without_the_audio_libraries(
    suffix: str, stored: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / f"out.{suffix}"
    of_it = ("--uid", "user", "--conversation", "talk")
    exported = run_without(MODULES["audio"], "export", *of_it, "-o", str(out), **stored)
    assert exported.returncode == 0, exported.stderr
    assert out.stat().st_size > 5000
    for command in (("verify",), ("ls", *of_it), ("files", *of_it)):
        done = run_without(MODULES["audio"], *command, **stored)
        assert done.returncode == 0, done.stderr
