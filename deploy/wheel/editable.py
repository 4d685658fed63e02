"""`audio_batch_worker` of an editable install. A wheel has the modules themselves instead of this file.

Where `worker` and `codec` are ours, `audio_batch_worker.producer` is the very module `worker.producer`: a test may use
both names. Where an application hides one of them with its own, our modules are loaded from the repository under
their installed names, as a wheel would have them.
"""

from __future__ import annotations

import sys
from functools import cache
from importlib.abc import MetaPathFinder
from importlib.machinery import SourceFileLoader
from importlib.util import find_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING

from audio_batch_worker._alias import is_working_tree, same
from audio_batch_worker._imports import INSTALLED, renamed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import CodeType, ModuleType

ROOT = Path("ROOT")  # the hook in build.py puts the repository here


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith(f"{__name__}."):
            return None
        name = _repository_name(fullname)
        return same(fullname, name) if _visible() else _from_repository(fullname, name)


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
    return spec is not None and spec.origin is not None and is_working_tree(Path(spec.origin).parent.parent)


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
