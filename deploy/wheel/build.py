"""Hatchling's hook for wheels: installs `worker` and `codec` as `audio_batch_worker`.

A wheel has plain files: the modules, with their imports of each other renamed (see imports.py). The names `worker` and
`codec` lead to the same modules (see alias.py), by two small files, and by stubs for type checkers.

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
ALIAS = '''"""The name `{name}` of `{installed}`. audio_batch_worker/_alias.py tells more."""

from runpy import run_module

from audio_batch_worker._alias import alias

alias("{name}", "{installed}")

if __name__ == "__main__":
    run_module("{name}", run_name="__main__", alter_sys=True)
'''


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
        yield str(HERE / "alias.py"), "audio_batch_worker/_alias.py"
        for name, installed in IMPORTS["INSTALLED"].items():
            yield self._write(f"{name}.py", ALIAS.format(name=name, installed=installed)), f"{name}.py"
        for name, file in self._files():
            if file.suffix == ".py":
                yield self._write(name, IMPORTS["renamed"](file.read_text("utf-8"), str(file))), name
                package, *rest = file.relative_to(self.root).parts
                stub = "/".join([f"{package}-stubs", *rest]) + "i"
                yield self._write(stub, _stub(Path(name))), stub
            else:
                yield str(file), name

    def _editable(self) -> Iterator[tuple[str, str]]:
        finder = (HERE / "editable.py").read_text("utf-8").replace('Path("ROOT")', f"Path({self.root!r})")
        yield self._write("audio_batch_worker/__init__.py", finder), "audio_batch_worker/__init__.py"
        yield str(HERE / "alias.py"), "audio_batch_worker/_alias.py"
        yield str(HERE / "imports.py"), "audio_batch_worker/_imports.py"
        yield str(Path(self.root, "worker", "py.typed")), "audio_batch_worker/py.typed"
        for name, file in self._files():
            if file.suffix == ".py":
                stub = f"{name}i"
                yield self._write(stub, _stub(file.relative_to(self.root))), stub

    def _files(self) -> Iterator[tuple[str, Path]]:
        """(path in the wheel, file) of all that belongs to the packages."""
        for package in PACKAGES:
            folder = Path(self.root, package)
            for file in sorted(folder.rglob("*")):
                if file.is_file() and "__pycache__" not in file.parts and file.suffix != ".md":
                    place = IMPORTS["installed_name"](package).replace(".", "/")
                    yield f"{place}/{file.relative_to(folder).as_posix()}", file

    def _write(self, name: str, text: str) -> str:
        path = Path(self._made.name, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        return str(path)


def _stub(path: Path) -> str:
    """Types for a second name of the module at a path."""
    module = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
    version = f"from {module} import __version__ as __version__\n"  # a star leaves out what begins with an underscore
    return f"from {module} import *\n" + (version if module in ("worker", "audio_batch_worker") else "")
