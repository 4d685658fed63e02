"""The environment that the chart renders is the one the worker reads, name by name and value by value."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.deploy.chart import CHART, OUTSIDE_SECRET, POD_TEMPLATE_HASH, SCENARIOS, render
from worker.settings import Settings, load
from worker.stream.servers import certificates

if TYPE_CHECKING:
    from collections.abc import Mapping

pytestmark = pytest.mark.helm

FIELDS = {name.upper() for name in Settings.model_fields}
FROM_OUTSIDE = {"everything": {"TZ"}}
LEFT_TO_THE_WORKER = {"PARTITIONS", "WORKER_ID"}
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())


def variable(key: str) -> str:
    return "".join(f"_{letter}" if letter.isupper() else letter.upper() for letter in key)


def loaded(monkeypatch: pytest.MonkeyPatch, environment: Mapping[str, str]) -> Settings:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(certificates, "check_authorities", Path)  # here is no pod, in which the file is mounted
    return load()


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_rendered_variable_is_a_setting_of_the_worker(scenario: str) -> None:
    assert set(render(scenario=scenario).environment()) - FROM_OUTSIDE.get(scenario, set()) <= FIELDS


def test_every_setting_can_be_reached_from_the_values() -> None:
    assert FIELDS - set(render(scenario="everything").environment()) == LEFT_TO_THE_WORKER


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_worker_reads_what_the_values_say(monkeypatch: pytest.MonkeyPatch, scenario: str) -> None:
    changed = yaml.safe_load((CHART / "ci" / f"{scenario}-values.yaml").read_text()).get("config", {})
    settings = loaded(monkeypatch, render(scenario=scenario).environment())

    for key, value in (VALUES["config"] | changed).items():
        if value is not None:
            assert getattr(settings, variable(key).lower()) == value, key


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_worker_has_all_that_storing_needs(monkeypatch: pytest.MonkeyPatch, scenario: str) -> None:
    settings = loaded(monkeypatch, render(scenario=scenario).environment())

    settings.require_storage()
    assert settings.revision == POD_TEMPLATE_HASH


def test_without_any_values_everything_secret_or_particular_comes_from_one_secret(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = loaded(monkeypatch, render(scenario=None).environment())

    assert (settings.redis_url, settings.store_url) == ("rediss://redis:6378/0", "gs://bucket")
    assert settings.secret == OUTSIDE_SECRET


def test_old_secrets_are_read_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = loaded(monkeypatch, render(scenario="development").environment())

    assert len(settings.secrets) == 3


def test_the_spools_values_reach_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    spool = {"maxBytes": 2**40, "afterSeconds": 0.5, "mountPath": "/elsewhere"}
    settings = loaded(monkeypatch, render({"spool": spool}, scenario="spool-claim").environment())

    assert (settings.spool_mode, str(settings.spool_dir)) == ("always", "/elsewhere")
    assert (settings.spool_max_bytes, settings.spool_after) == (2**40, 0.5)


@pytest.mark.parametrize("key", [key for key, value in VALUES["config"].items() if value is not None])
def test_the_charts_defaults_are_the_workers(key: str) -> None:
    default: Any = Settings.model_fields[variable(key).lower()].default

    assert VALUES["config"][key] == default


def test_the_spools_defaults_are_the_workers() -> None:
    fields, spool = Settings.model_fields, VALUES["spool"]

    assert (fields["spool_mode"].default, fields["spool_max_bytes"].default) == (spool["mode"], spool["maxBytes"])
    assert fields["spool_after"].default == spool["afterSeconds"]


def test_redis_is_trusted_and_logged_in_to_as_the_values_say(monkeypatch: pytest.MonkeyPatch) -> None:
    rendered = render({"redis": {"auth": "google-iam", "caFile": {"configMap": "ca", "key": "a.pem"}}}, scenario=None)
    settings = loaded(monkeypatch, rendered.environment())

    assert settings.redis.url == "rediss://redis:6378/0?ssl_ca_certs=/etc/redis-ca/a.pem&auth=google-iam"
