"""The README's parts that follow from the code: tables that are written, examples that are run.

`python -m tests.readme` writes the tables anew.
"""

from __future__ import annotations

import re
from pathlib import Path

import typer.main

from worker.cli import app
from worker.settings import Settings, shown_default_and_choices

README = Path(__file__).parent.parent / "README.md"


def settings_table() -> str:
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = shown_default_and_choices(name)
        rows.append(f"| `{name.upper()}` | {default} | {_cell(field.description)} |")
    return "\n".join(rows)


def commands_table() -> str:
    rows = ["| command | what it does |", "|---|---|"]
    for name, command in sorted(typer.main.get_group(app).commands.items()):
        rows.append(f"| `{name}` | {_cell((command.help or '').partition(chr(10))[0])} |")
    return "\n".join(rows)


TABLES = {"settings": settings_table, "commands": commands_table}


def written(text: str) -> str:
    """The text with its tables as they should be."""
    for name, table in TABLES.items():
        begin, end = f"<!-- {name}: written by `make readme` -->\n", f"<!-- end of {name} -->"
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        text = f"{before}{begin}{table()}\n{end}{after}"
    return text


def example(name: str) -> str:
    """The program below the comment that names it."""
    text = README.read_text()
    found = re.search(rf"<!-- {name}: run by tests/test_readme\.py -->\n```\w+\n(.*?)```", text, re.DOTALL)
    if found is None:
        raise LookupError(f"README.md has no example {name}")
    return found.group(1)


def _cell(text: str | None) -> str:
    return (text or "").replace("|", "\\|")


if __name__ == "__main__":
    README.write_text(written(README.read_text()))
