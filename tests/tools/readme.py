"""The documents' parts that follow from the code: tables that are written, examples that are run.

`python -m tests.tools.readme` writes the tables anew.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import typer.main
from prometheus_client.metrics import MetricWrapperBase

from tests.support.paths import ROOT
from worker.cli import app
from worker.runtime.metrics import PREFIX, Metrics
from worker.settings import Settings, shown_default_and_choices

TOP = ROOT
README = TOP / "README.md"
CONTRACT = TOP / "codec" / "README.md"
ARCHITECTURE = TOP / "worker" / "README.md"
PERFORMANCE = TOP / "tests" / "tools" / "bench" / "README.md"
CHART = TOP / "deploy" / "helm"

DOCUMENTS = [README, CONTRACT, ARCHITECTURE, PERFORMANCE, *sorted(CHART.glob("*.md"))]
"""Those that speak of settings, commands and metrics."""

FENCED = re.compile(r"^(```|~~~).*?^\1$", re.MULTILINE | re.DOTALL)


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


def metrics_table() -> str:
    """Label values are those that count from 0; others appear when they first happen."""
    rows = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    metrics = Metrics()
    values = _label_values(metrics)
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            kind = str(metric._type)
            name = f"{metric._name}_total" if kind == "counter" else metric._name
            labels = "; ".join(_label(label, values.get((metric._name, label), {})) for label in metric._labelnames)
            rows.append(f"| `{name}` | {kind} | {labels} | {_cell(metric._documentation)} |")
    return "\n".join(rows)


TABLES = {"settings": settings_table, "commands": commands_table, "metrics": metrics_table}


def written(text: str, tables: Mapping[str, Callable[[], str]] = TABLES) -> str:
    """The text with its tables as they should be. Raises `LookupError` if one has no place in it."""
    for name, table in tables.items():
        begin, end = f"<!-- {name}: written by `make readme` -->\n", f"<!-- end of {name} -->"
        before, found, rest = text.partition(begin)
        _, ended, after = rest.partition(end)
        if not (found and ended):
            raise LookupError(f"there is no place for the table of {name}")
        text = f"{before}{begin}{table()}\n{end}{after}"
    return text


def example(name: str) -> str:
    """The program in the README below the comment that names it."""
    text = README.read_text()
    found = re.search(rf"<!-- {name}: run by tests/documents/test_readme\.py -->\n```\w+\n(.*?)```", text, re.DOTALL)
    if found is None:
        raise LookupError(f"README.md has no example {name}")
    return found.group(1)


def all_documents() -> list[Path]:
    """Every Markdown file of the project, without what tools have put into hidden directories."""
    return sorted(path for path in TOP.rglob("*.md") if not _is_hidden(path.relative_to(TOP)))


def links(text: str) -> list[str]:
    """What a document's links lead to, addresses on the web left out."""
    found: list[str] = re.findall(r"\]\(([^)\s]+)\)", FENCED.sub("", text))
    return [link for link in found if not re.match(r"[a-z]+:", link)]


def anchors(text: str) -> set[str]:
    """Where links into a document can lead, as GitHub names its headings."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def cells(text: str, heading: str) -> list[str]:
    """The code words in the first column of the tables below a heading, up to the next heading."""
    _, _, below = text.partition(f"\n{heading}\n")
    section, _, _ = below.partition("\n#")
    rows = re.findall(r"^\| ([^|]+) \|", section, re.MULTILINE)
    return [word for row in rows for word in re.findall(r"`([^`]+)`", row)]


def _label_values(metrics: Metrics) -> dict[tuple[str, str], dict[str, None]]:
    values: dict[tuple[str, str], dict[str, None]] = {}
    for family in metrics.registry.collect():
        if family.name.startswith(f"{PREFIX}_"):
            for sample in family.samples:
                for label, value in sample.labels.items():
                    values.setdefault((family.name, label), {})[value] = None
    return values


def _label(name: str, values: Mapping[str, None]) -> str:
    return f"`{name}`: {', '.join(values)}" if values else f"`{name}`"


def _is_hidden(path: Path) -> bool:
    return any(folder.startswith(".") and folder != ".github" for folder in path.parts[:-1])


def _cell(text: str | None) -> str:
    return (text or "").replace("|", "\\|")


if __name__ == "__main__":
    ARCHITECTURE.write_text(written(ARCHITECTURE.read_text()))
