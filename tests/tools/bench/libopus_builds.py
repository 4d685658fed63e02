"""The image's libopus for newer processors, for a worker of the bench."""

from __future__ import annotations

import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from codec.libopus import BUNDLED_PACKAGE
from codec.libopus.builds import PORTABLE, fitting_builds


def python_path(directory: Path) -> str | None:
    """A directory for PYTHONPATH in which the worker finds its libopus as it lies in the image, with all builds.

    It is made in `directory`. None where .ci/setup has made no build that this processor can run.
    """
    spec = find_spec(BUNDLED_PACKAGE)
    found = {name: path for name, path in fitting_builds(Path(sys.prefix, "libopus")) if name != PORTABLE}
    if spec is None or spec.origin is None or not found:
        return None
    target = directory / "python-path"
    if not target.exists():
        shutil.copytree(Path(spec.origin).parent, target / BUNDLED_PACKAGE)
        for name, path in found.items():
            (target / BUNDLED_PACKAGE / "_native" / name).mkdir()
            shutil.copy2(path, target / BUNDLED_PACKAGE / "_native" / name)
    return str(target)


def fastest() -> Path | None:
    """The build that this processor runs fastest, of those that .ci/setup has made; None if there is none."""
    return next((path for _, path in fitting_builds(Path(sys.prefix, "libopus"))), None)
