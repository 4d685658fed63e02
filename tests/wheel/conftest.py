"""A wheel built from this working tree, installed where our repository is not on the path."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.tools.readme import README

if TYPE_CHECKING:
    from collections.abc import Callable

TOP = README.parent
OWN_MODULES = {
    "modules": ("worker.py", "codec.py"),
    "packages": ("worker/__init__.py", "worker/tasks.py", "codec/__init__.py"),
    "folders": ("worker/tasks.py", "codec/tables.py"),
}
"""How an application can have a `worker` and a `codec` of its own; `folders` have no `__init__.py`."""


def run(program: Path | str, *arguments: str, cwd: Path, code: int = 0) -> str:
    """What a program prints in a directory of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    finished = subprocess.run(
        [program, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert finished.returncode == code, finished.stdout + finished.stderr
    return finished.stdout


def build(kind: str, target: Path, source: Path = TOP) -> Path:
    """Build the wheel or the sdist of a source tree."""
    run(sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(target), cwd=source)
    (built,) = target.iterdir()
    return built


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("sdist", tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a virtual environment that has the wheel, and sees what else is installed here.

    Lines of .pth files in the other environment are not followed, so the editable install there is not seen.
    """
    directory = tmp_path_factory.mktemp("installed")
    venv.create(directory, with_pip=False, symlinks=True)
    python = directory / "bin" / "python"
    packages = sysconfig.get_path("purelib", vars={"base": str(directory)})
    dependencies = [entry for entry in sys.path if Path(entry).name == "site-packages"]
    Path(packages, "dependencies.pth").write_text("\n".join(dependencies))
    offline = ("--no-deps", "--no-index", "--quiet", "--disable-pip-version-check")
    run(sys.executable, "-m", "pip", "--python", str(python), "install", *offline, str(wheel), cwd=directory)
    return python


@pytest.fixture(params=OWN_MODULES)
def application(request: pytest.FixtureRequest, application_with: Callable[[str], Path]) -> Path:
    return application_with(request.param)


@pytest.fixture
def application_with(tmp_path: Path) -> Callable[[str], Path]:
    """Lay out an application's directory."""

    def lay_out(kind: str) -> Path:
        for name in OWN_MODULES[kind]:
            file = tmp_path / name
            file.parent.mkdir(exist_ok=True)
            file.write_text('OWNER = "the application"\n')
        return tmp_path

    return lay_out
