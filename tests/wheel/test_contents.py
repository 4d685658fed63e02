"""What a wheel and a source distribution hold."""

from __future__ import annotations

import runpy
import tarfile
import zipfile
from typing import TYPE_CHECKING

import pytest

from tests.wheel.conftest import TOP, build

if TYPE_CHECKING:
    from pathlib import Path

IMPORTS = runpy.run_path(str(TOP / "deploy/wheel/imports.py"))


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def files(package: str, suffix: str = "") -> set[str]:
    found = (TOP / package).rglob(f"*{suffix}")
    paths = [file for file in found if file.is_file() and "__pycache__" not in file.parts and file.suffix != ".md"]
    return {file.relative_to(TOP / package).as_posix() for file in paths}


def in_folder(folder: str, names: set[str]) -> set[str]:
    return {name.removeprefix(f"{folder}/") for name in names if name.startswith(f"{folder}/")}


def test_a_wheel_has_no_package_that_an_application_may_have_too(wheel: Path) -> None:
    tops = {name.partition("/")[0] for name in contents(wheel) if ".dist-info/" not in name}

    assert tops == {"audio_batch_worker", "worker.py", "codec.py", "worker-stubs", "codec-stubs"}


def test_every_file_of_both_packages_is_in_the_wheel_which_is_marked_as_typed(wheel: Path) -> None:
    found = in_folder("audio_batch_worker", set(contents(wheel)))

    assert found == files("worker") | {f"codec/{name}" for name in files("codec")} | {"_alias.py"}
    assert {"py.typed", "codec/py.typed"} <= found


@pytest.mark.parametrize("package", ["worker", "codec"])
def test_every_module_of_both_packages_has_types_under_its_second_name(wheel: Path, package: str) -> None:
    assert in_folder(f"{package}-stubs", set(contents(wheel))) == {f"{name}i" for name in files(package, ".py")}


def test_documents_are_in_the_source_distribution_but_not_in_the_wheel(wheel: Path, sdist: Path) -> None:
    assert not [name for name in contents(wheel) if name.endswith(".md")]
    with tarfile.open(sdist) as archive:
        documents = {name.partition("/")[2] for name in archive.getnames() if name.endswith(".md")}
    assert {"README.md", "worker/README.md", "codec/README.md"} <= documents


def test_a_source_distribution_gives_the_same_wheel(wheel: Path, sdist: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.glob("audio_batch_worker-*")

    assert contents(build("wheel", tmp_path / "wheel", source)) == contents(wheel)
    assert all((source / package / "py.typed").exists() for package in ("worker", "codec"))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("from worker import app", "from audio_batch_worker import app"),
        ("from worker.errors import X", "from audio_batch_worker.errors import X"),
        ("if x:\n    from codec.blob import (\n        y,\n    )", None),
        ("from codec import blob", "from audio_batch_worker.codec import blob"),
        ("from workers import x", "from workers import x"),
        ("from codecs import lookup", "from codecs import lookup"),
        ("from .worker import x", "from .worker import x"),
        ("worker = codec = 'worker.errors'", "worker = codec = 'worker.errors'"),
    ],
)
def test_imports_follow_the_name_and_nothing_else_changes(source: str, expected: str | None) -> None:
    wanted = source.replace("codec.", "audio_batch_worker.codec.") if expected is None else expected

    assert IMPORTS["renamed"](source, "module.py") == wanted


@pytest.mark.parametrize("statement", ["import worker.errors", "import codec", "import os, codec.blob as blob"])
def test_an_import_that_binds_the_name_of_the_repository_stops_the_build(statement: str) -> None:
    with pytest.raises(ValueError, match=r"module\.py:2: write `from (worker|codec)\S* import …`"):
        IMPORTS["renamed"](f"x = 1\n{statement}\n", "module.py")
