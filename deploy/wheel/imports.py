"""The name under which our modules are installed.

In the repository the packages are `worker` and `codec`. An application may have a `worker.py` of its own, so an
installed package must not depend on these two names: there `worker` is `audio_batch_worker`, and `codec` is
`audio_batch_worker.codec`. Our modules import each other by absolute names, so these statements have to follow.
"""

from __future__ import annotations

import ast
import re

INSTALLED = {"worker": "audio_batch_worker", "codec": "audio_batch_worker.codec"}
"""Name in the repository: name where it is installed."""

IMPORT = re.compile(r"^([ \t]*from )(worker|codec)(?=[\w.]* import\b)(?!\w)", re.MULTILINE)


def installed_name(name: str) -> str:
    """`worker.producer` is installed as `audio_batch_worker.producer`."""
    top, dot, rest = name.partition(".")
    return INSTALLED[top] + dot + rest


def renamed(source: str, path: str) -> str:
    """The source of a module, line by line the same, which imports our modules by their installed names.

    Raises:
        ValueError: it has an import that can't be renamed, such as `import worker.errors`, which binds `worker`.
    """
    result = IMPORT.sub(lambda found: found[1] + INSTALLED[found[2]], source)
    for node in ast.walk(ast.parse(result, path)):
        if isinstance(node, ast.Import | ast.ImportFrom) and (wrong := _repository_names(node)):
            raise ValueError(f"{path}:{node.lineno}: write `from {wrong[0]} import …`, which the wheel can rename")
    return result


def _repository_names(node: ast.Import | ast.ImportFrom) -> list[str]:
    relative = isinstance(node, ast.ImportFrom) and node.level
    names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
    return [name for name in names if not relative and name.partition(".")[0] in INSTALLED]
