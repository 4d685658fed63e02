"""`audio_batch_worker` of an editable install. A wheel has the modules themselves instead of this file.

Where `worker` and `codec` are ours, `audio_batch_worker.producer` is the very module `worker.producer`: a test may use
both names. Where an application hides one of them with its own, our modules are loaded from the repository under
their installed names, as a wheel would have them.
"""

from __future__ import annotations

import sys
from functools import cache
from importlib import import_module
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import find_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING

from audio_batch_worker._imports import INSTALLED, renamed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import CodeType, ModuleType

ROOT = Path("ROOT")  # the hook in build.py puts the repository here
OURS = 'name = "audio-batch-worker"'
"""A line of pyproject.toml in each working tree of the repository."""


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith(f"{__name__}."):
            return None
        name = _repository_name(fullname)
        return _same(fullname, name) if _visible() else _from_repository(fullname, name)


class _Same(InspectLoader):
    """Gives a module that is already loaded, or is loaded now, a second name."""

    def __init__(self, spec: ModuleSpec) -> None:
        self._spec = spec

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return import_module(self._spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Undo the one thing that the import system has changed: the spec, which knows where the module is."""
        module.__spec__ = self._spec

    def get_code(self, fullname: str) -> CodeType | None:
        """For `python -m audio_batch_worker`."""
        loader = self._spec.loader
        return loader.get_code(self._spec.name) if isinstance(loader, InspectLoader) else None

    def get_source(self, fullname: str) -> str | None:
        loader = self._spec.loader
        return loader.get_source(self._spec.name) if isinstance(loader, InspectLoader) else None


class _Renaming(SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType:
        """Compile anew each time: the bytecode beside the file is that of the names in the repository."""
        text = renamed(Path(self.path).read_text("utf-8"), self.path)
        return compile(text, self.path, "exec", dont_inherit=True)


def _repository_name(fullname: str) -> str:
    for name, installed in sorted(INSTALLED.items(), key=lambda pair: -len(pair[1])):
        if f"{fullname}.".startswith(f"{installed}."):
            return name + fullname.removeprefix(installed)
    raise ValueError(fullname)


@cache
def _visible() -> bool:
    """Whether both names of the repository lead to our packages, in this working tree or another one."""
    return all(_is_ours(name) for name in INSTALLED)


def _is_ours(name: str) -> bool:
    try:
        spec = find_spec(name)
    except ValueError:  # a module without a spec has this name
        return False
    if spec is None or spec.origin is None:
        return False
    project = Path(spec.origin).parent.parent / "pyproject.toml"
    return project.is_file() and OURS in project.read_text("utf-8").splitlines()


def _same(fullname: str, name: str) -> ModuleSpec | None:
    found = find_spec(name)
    if found is None:
        return None
    is_package = found.submodule_search_locations is not None
    return ModuleSpec(fullname, _Same(found), origin=found.origin, is_package=is_package)


def _from_repository(fullname: str, name: str) -> ModuleSpec | None:
    folder = ROOT.joinpath(*name.split("."))
    for file, inside in ((folder / "__init__.py", [str(folder)]), (folder.with_suffix(".py"), None)):
        if file.is_file():
            loader = _Renaming(fullname, str(file))
            return spec_from_file_location(fullname, file, loader=loader, submodule_search_locations=inside)
    return None


def _main() -> None:
    """Become what `worker/__init__.py` says, and find the rest."""
    file = ROOT / "worker" / "__init__.py"
    exec(compile(renamed(file.read_text("utf-8"), str(file)), file, "exec"), globals())  # noqa: S102 our own file
    sys.meta_path.insert(0, _Finder())


_main()
