"""Developers, their hooks and every CI run the same commands, and the documents for them name what exists."""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.tools.readme import README

if TYPE_CHECKING:
    from pathlib import Path

TOP = README.parent
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
MAKEFILE = (TOP / "Makefile").read_text()
DOCUMENTS = sorted((TOP / ".github").glob("*.md"))
JOBS: dict[str, Any] = yaml.safe_load((TOP / ".github/workflows/ci.yml").read_text())["jobs"]
JOB = JOBS["check"]


def test_the_workflow_runs_what_ci_runs() -> None:
    commands = [line for line in (TOP / ".ci/run").read_text().splitlines() if line.startswith("make ")]

    assert [step["run"] for step in JOB["steps"] if "run" in step] == commands


def test_the_workflow_runs_every_python_that_the_package_names() -> None:
    named = [name.rpartition(" ")[2] for name in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", name)]

    assert JOB["strategy"]["matrix"]["python"] == named
    assert PROJECT["requires-python"] == f">={named[0]}"
    assert all(extra["may_fail"] for extra in JOB["strategy"]["matrix"]["include"])


def test_the_lowest_versions_are_tried_with_the_lowest_python() -> None:
    lowest = [
        step["with"]["python-version"] for step in JOBS["lowest"]["steps"] if "python-version" in step.get("with", {})
    ]
    assert [f">={python}" for python in lowest] == [PROJECT["requires-python"]]


def test_hooks_run_the_commands_of_make_lint() -> None:
    (local,) = yaml.safe_load((TOP / ".pre-commit-config.yaml").read_text())["repos"]
    recipe = MAKEFILE.partition("\nlint:")[2].partition("\n\n")[0]

    assert local["repo"] == "local"
    assert [hook["entry"] for hook in local["hooks"]] == [
        f".venv/bin/{command}" for command in re.findall(r"\$\(BIN\)/(.+)", recipe)
    ]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_documents_name_what_exists(document: Path) -> None:
    text = document.read_text()
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))

    assert set(re.findall(r"(?:`|\$ |sudo )make ([a-z-]+)", text)) <= targets
    for link in re.findall(r"\]\(([^)]+)\)", text):
        assert link.startswith("https://") or (document.parent / link).exists(), link
