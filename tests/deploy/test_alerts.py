"""The alerts that the chart ships, as Prometheus' own tool reads and evaluates them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.chart import CHART, TOP, find_tool, render
from tests.deploy.commands import check_command
from tests.deploy.metric_names import series, unknown_labels, used
from tests.tools.readme import anchors

pytestmark = [pytest.mark.helm, pytest.mark.promtool]

CASES = Path(__file__).parent / "alerts.test.yaml"
RUNBOOKS = (CHART / "RUNBOOKS.md").read_text()
SPOOL = {"spool": {"mode": "outage", "existingClaim": "filestore"}}


def rules(values: dict[str, Any] | None = None) -> dict[str, Any]:
    rendered = render(SPOOL | {"prometheusRule": {"enabled": True} | (values or {})})
    spec: dict[str, Any] = rendered.one("PrometheusRule")["spec"]
    return spec


def alerts() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = rules()["groups"][0]["rules"]
    return found


def promtool(*arguments: str, cwd: Path) -> None:
    done = subprocess.run(
        [find_tool("promtool") or "promtool", *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_the_rules(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules()))

    promtool("check", "rules", "--lint-fatal", "rules.yaml", cwd=tmp_path)


def test_each_alert_fires_on_its_fault_and_not_in_peace(tmp_path: Path) -> None:
    fired = rules()
    for alert in fired["groups"][0]["rules"]:  # the other annotations are the same whatever happens
        alert["annotations"] = {"summary": alert["annotations"]["summary"]}
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(fired))
    (tmp_path / CASES.name).write_text(CASES.read_text())

    promtool("test", "rules", CASES.name, cwd=tmp_path)


def test_each_alert_is_tested_firing_and_silent() -> None:
    checked = [check for case in yaml.safe_load(CASES.read_text())["tests"] for check in case["alert_rule_test"]]

    names = {alert["alert"] for alert in alerts()}
    assert {check["alertname"] for check in checked if check.get("exp_alerts")} == names
    assert {check["alertname"] for check in checked if not check.get("exp_alerts")} == names


def test_alerts_ask_for_series_and_labels_that_workers_have() -> None:
    known = series()

    for alert in alerts():
        assert used(alert["expr"])
        assert used(alert["expr"]) <= set(known)
        assert not unknown_labels(alert["expr"], known), alert["alert"]


def test_lost_audio_pages_at_once() -> None:
    (lost,) = (alert for alert in alerts() if alert["alert"] == "AudioBatchEntriesLost")

    assert lost["labels"]["severity"] == "page"
    assert "for" not in lost


def test_each_alert_is_about_this_release_only() -> None:
    for alert in alerts():
        assert alert["expr"].count('namespace="audio",job="abw"') == len(list(_selectors(alert["expr"])))


def _selectors(expression: str) -> list[str]:
    return [piece for piece in expression.split("{")[1:] if "}" in piece]


def test_each_alert_has_a_runbook_and_each_runbook_an_alert() -> None:
    headings = {line.removeprefix("## ") for line in RUNBOOKS.splitlines() if line.startswith("## ")}

    assert headings - {"The commands on this page"} == {alert["alert"] for alert in alerts()}


@pytest.mark.parametrize("start", ["https://example.com/RUNBOOKS.md", "deploy/helm/RUNBOOKS.md"])
def test_runbook_links_lead_to_the_headings(start: str) -> None:
    for alert in rules({"runbookURL": start})["groups"][0]["rules"]:
        page, _, anchor = alert["annotations"]["runbook_url"].partition("#")
        assert (page, anchor) == (start, alert["alert"].lower())
        assert anchor in anchors(RUNBOOKS)


def test_runbook_links_lead_to_the_page_of_the_repository_by_default() -> None:
    assert {alert["annotations"]["runbook_url"].partition("#")[0] for alert in alerts()} == {
        str((CHART / "RUNBOOKS.md").relative_to(TOP))
    }


def test_without_an_address_there_are_no_runbook_links() -> None:
    assert not any("runbook_url" in alert["annotations"] for alert in rules({"runbookURL": ""})["groups"][0]["rules"])


def test_each_alert_describes_what_it_means_and_what_to_type() -> None:
    for alert in alerts():
        description = alert["annotations"]["description"]
        told, _, command = description.partition(": kubectl ")
        assert told.count(". ") >= 1, alert["alert"]
        assert description != alert["annotations"]["summary"]
        assert "{{" not in description, alert["alert"]
        assert not command or command.startswith("-n audio "), alert["alert"]
        for arguments in re.findall(r"-- audio-batch-worker (.+)", description):
            check_command(arguments.split())


def test_the_commands_of_descriptions_name_what_the_release_has() -> None:
    rendered = render(SPOOL)
    selectors = {f"{key}={value}" for key, value in rendered.pod["metadata"]["labels"].items()}

    for alert in alerts():
        description = alert["annotations"]["description"]
        assert set(re.findall(r"deployment/(\S+)", description)) <= {rendered.one("Deployment")["metadata"]["name"]}
        assert {one for found in re.findall(r"-l (\S+)", description) for one in found.split(",")} <= selectors
        assert set(re.findall(r"-c (\S+)", description)) <= {rendered.worker["name"]}


def test_an_alert_can_be_left_out_and_all_can_be_labelled() -> None:
    changed = rules({"disabled": ["AudioBatchDeadLetters"], "alertLabels": {"team": "audio"}})["groups"][0]["rules"]

    assert {a["alert"] for a in alerts()} - {a["alert"] for a in changed} == {"AudioBatchDeadLetters"}
    assert all(alert["labels"]["team"] == "audio" for alert in changed)


def test_the_selector_can_be_replaced_where_labels_differ() -> None:
    changed = rules({"selector": 'cluster="eu"'})["groups"][0]["rules"]

    assert all('{cluster="eu"' in alert["expr"] for alert in changed)
    assert not any('job="abw"' in alert["expr"] for alert in changed)


def test_without_a_spool_there_is_no_alert_on_it() -> None:
    without = render({"prometheusRule": {"enabled": True}}).one("PrometheusRule")["spec"]["groups"][0]["rules"]

    assert {a["alert"] for a in alerts()} - {a["alert"] for a in without} == {
        "AudioBatchSpoolDamaged",
        "AudioBatchSpoolFilling",
        "AudioBatchSpoolRefusing",
    }
