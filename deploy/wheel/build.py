"""Hatchling's hook for wheels: installs `worker` and `codec` as `audio_batch_worker`.

A wheel has plain files: the modules, with their imports of each other renamed (see imports.py). It has no top-level
`worker` or `codec`, which an application could hide, or overwrite, with its own.

An editable wheel has a package that finds the modules in the repository (see editable.py), and stubs for type
checkers. The stubs are as old as the install: a type checker sees a new module after the next `pip install -e .`.
"""

from __future__ import annotations

import runpy
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
IMPORTS = runpy.run_path(str(HERE / "imports.py"))
PACKAGES = tuple(IMPORTS["INSTALLED"])
VERSION = "from worker import __version__ as __version__\n"  # a star leaves out what begins with an underscore


class InstalledName(BuildHookInterface[Any]):
    """Writes what is not in the repository into a temporary directory, from which hatchling takes it."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Say which files the wheel has."""
        self._made = tempfile.TemporaryDirectory()
        if version == "editable":
            build_data["force_include_editable"] = dict(self._editable())
        else:
            build_data["force_include"] |= dict(self._standard())

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """The wheel is written."""
        self._made.cleanup()

    def _standard(self) -> Iterator[tuple[str, str]]:
        for name, file in self._files():
            if file.suffix == ".py":
                yield self._write(name, IMPORTS["renamed"](file.read_text("utf-8"), str(file))), name
            else:
                yield str(file), name

    def _editable(self) -> Iterator[tuple[str, str]]:
        finder = (HERE / "editable.py").read_text("utf-8").replace('Path("ROOT")', f"Path({self.root!r})")
        yield self._write("audio_batch_worker/__init__.py", finder), "audio_batch_worker/__init__.py"
        yield str(HERE / "imports.py"), "audio_batch_worker/_imports.py"
        yield str(Path(self.root, "worker", "py.typed")), "audio_batch_worker/py.typed"
        for name, file in self._files():
            if file.suffix == ".py":
                stub = f"{name}i"
                yield self._write(stub, self._stub(file)), stub

    def _files(self) -> Iterator[tuple[str, Path]]:
        """(path in the wheel, file) of all that belongs to the packages."""
        for package in PACKAGES:
            folder = Path(self.root, package)
            for file in sorted(folder.rglob("*")):
                if file.is_file() and "__pycache__" not in file.parts and file.suffix != ".md":
                    place = IMPORTS["installed_name"](package).replace(".", "/")
                    yield f"{place}/{file.relative_to(folder).as_posix()}", file

    def _stub(self, file: Path) -> str:
        module = ".".join(file.relative_to(self.root).with_suffix("").parts).removesuffix(".__init__")
        return f"from {module} import *\n" + (VERSION if module == "worker" else "")

    def _write(self, name: str, text: str) -> str:
        path = Path(self._made.name, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        return str(path)
