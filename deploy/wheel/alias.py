"""The names `worker` and `codec` where a wheel is installed: `worker.producer` is `audio_batch_worker.producer`.

Each is the very same module, so that an object made under one name is an instance of the class under the other.

A wheel has these names as two small files beside `audio_batch_worker`, which call `alias`. An application may use the
names itself, and then they are the application's, wherever it stands in `sys.path`:

- Python finds what the application has in its own folder before it finds our files.
- Where both are installed, in site-packages, Python takes a package before a module of the same name. Therefore our
  files are `worker.py` and `codec.py`: as packages they would overwrite those of the application, or be overwritten.
- Python prefers any module to a folder without `__init__.py`, and to what stands later in `sys.path`, as editable
  installs do. There our file was found, so it looks for the application's, and gives way. A folder without
  `__init__.py` is open to others' modules: ours can be imported as well, unless the application's have their names.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import FileFinder, ModuleSpec, PathFinder
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import CodeType, ModuleType

OURS = 'name = "audio-batch-worker"'
"""A line of pyproject.toml in each working tree of the repository."""


def alias(name: str, installed: str) -> None:
    """Make `import name` give the application's, if it has this name, and otherwise `installed`."""
    application = _of_the_application(name)
    if application and application.loader:
        sys.modules[name] = module_from_spec(application)
        application.loader.exec_module(sys.modules[name])
    else:
        sys.modules[name] = module_from_spec(application) if application else import_module(installed)
        sys.meta_path.insert(0, _Finder(name, installed))


def is_working_tree(folder: Path) -> bool:
    """Whether a folder holds our repository."""
    project = folder / "pyproject.toml"
    return project.is_file() and OURS in project.read_text("utf-8").splitlines()


def same(fullname: str, name: str) -> ModuleSpec | None:
    """How to import the module `name` under a second name."""
    found = find_spec(name)
    if found is None:
        return None
    is_package = found.submodule_search_locations is not None
    return ModuleSpec(fullname, _Same(found), origin=found.origin, is_package=is_package)


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
        """For `python -m`."""
        loader = self._spec.loader
        return loader.get_code(self._spec.name) if isinstance(loader, InspectLoader) else None

    def get_source(self, fullname: str) -> str | None:
        loader = self._spec.loader
        return loader.get_source(self._spec.name) if isinstance(loader, InspectLoader) else None


class _Finder(MetaPathFinder):
    def __init__(self, name: str, installed: str) -> None:
        self._name = name
        self._installed = installed

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        parent = fullname.rpartition(".")[0]
        if not f"{parent}.".startswith(f"{self._name}."):
            return None
        if sys.modules[parent] is sys.modules.get(self._second(parent)):
            return same(fullname, self._second(fullname))
        if parent == self._name and PathFinder.find_spec(fullname, path) is None:
            return same(fullname, self._second(fullname))
        return None

    def _second(self, name: str) -> str:
        return self._installed + name.removeprefix(self._name)


def _of_the_application(name: str) -> ModuleSpec | None:
    """What Python would find if our file did not exist."""
    path = [entry for entry in sys.path if not _is_ours(entry)]
    for finder in sys.meta_path:
        if spec := finder.find_spec(name, path):
            return spec
    here = Path(__file__).parent.parent
    return FileFinder(str(here)).find_spec(name)  # that knows no suffix: it finds a folder, not our file


def _is_ours(entry: str) -> bool:
    """Whether an entry of `sys.path` has our files, or is our repository."""
    spec = PathFinder.find_spec(__name__.partition(".")[0], [entry])
    return bool(spec and spec.loader) or is_working_tree(Path(entry))
