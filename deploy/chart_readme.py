#!/usr/bin/env python3
"""Writes the table of values in deploy/helm/README.md from deploy/helm/values.yaml: each key with the comment above it.

deploy/chart_readme.py [--check]     --check: change nothing, fail if the table is out of date
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

CHART = Path(__file__).resolve().parent / "helm"
TABLE = re.compile(r"(?<=<!-- values -->\n).*(?=<!-- /values -->)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Value:
    """One row: a key without keys of its own, or a section with what holds for all of it (`default` None)."""

    path: str
    default: str | None
    text: str


def values(text: str) -> Iterator[Value]:
    """All values of a values.yaml, in its order.

    Raises:
        ValueError: a key has no comment above it.
    """
    lines = text.splitlines()
    yield from _walk(yaml.compose(text, Loader=yaml.SafeLoader), lines, "")


def table(rows: Iterator[Value]) -> str:
    """The rows as Markdown."""
    lines = ["| Key | Default | |", "|---|---|---|"]
    for row in rows:
        default = "" if row.default is None else f"`{row.default}`"
        lines.append(f"| `{row.path}` | {default} | {row.text} |".replace("  ", " "))
    return "\n".join(lines) + "\n"


def _walk(node: yaml.Node | None, lines: list[str], path: str) -> Iterator[Value]:
    if not isinstance(node, yaml.MappingNode):
        raise ValueError(f"{path} is no map")  # noqa: TRY004 -- the file's content is wrong, not a caller's type
    for key, value in node.value:
        name, text = path + key.value, _comment(lines, key.start_mark.line)
        if isinstance(value, yaml.MappingNode) and value.value and not value.flow_style:
            if text:
                yield Value(name, None, text)
            yield from _walk(value, lines, f"{name}.")
        elif not text:
            raise ValueError(f"values.yaml, line {key.start_mark.line + 1}: {name} has no comment above it")
        else:
            yield Value(name, _default(value), text)


def _comment(lines: list[str], line: int) -> str:
    above: list[str] = []
    while line and lines[line - 1].lstrip().startswith("#"):
        line -= 1
        above.insert(0, lines[line].lstrip(" #"))
    return " ".join(above).replace("|", "\\|")


def _default(node: yaml.Node) -> str:
    loader = yaml.SafeLoader("")
    return json.dumps(loader.construct_document(node))


def main() -> int:
    """Write the table, or say that it is out of date."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--check", action="store_true", help="change nothing, fail if the table is out of date")
    check = parser.parse_args().check
    readme = CHART / "README.md"
    old = readme.read_text()
    rows = table(values((CHART / "values.yaml").read_text()))
    new = TABLE.sub(lambda _: rows, old)
    if check:
        if new != old:
            sys.stderr.write("deploy/helm/README.md is out of date: run `make chart-readme`\n")
        return int(new != old)
    readme.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
