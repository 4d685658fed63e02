"""The page in the cluster: a pod and an account of its own, which only `kubectl` reaches."""

from __future__ import annotations

import pytest

from tests.deploy.chart import component, render
from tests.deploy.commands import check_command

pytestmark = pytest.mark.helm


def test_without_being_asked_for_there_is_no_page() -> None:
    assert not [manifest for manifest in render().manifests if component(manifest) == "web"]


def test_the_page_has_an_account_of_its_own_and_the_workers_environment() -> None:
    rendered = render(scenario="web")
    page = rendered.page["spec"]["template"]["spec"]
    (account,) = (each for each in rendered.of("ServiceAccount") if component(each) == "web")

    assert page["serviceAccountName"] == account["metadata"]["name"] != rendered.pod["spec"]["serviceAccountName"]
    assert account["metadata"]["annotations"] == {
        "iam.gke.io/gcp-service-account": "reader@project.iam.gserviceaccount.com"
    }
    (container,) = page["containers"]
    environment = rendered.environment(container)
    assert environment["STORE_URL"] == "gs://audio-bucket/prefix"
    assert environment["SPOOL_DIR"] == ""
    assert {"REDIS_URL", "ENCRYPTION_SECRET"} <= environment.keys()


def test_the_page_listens_inside_its_pod_only() -> None:
    (container,) = render(scenario="web").page["spec"]["template"]["spec"]["containers"]

    assert "ports" not in container
    assert "--host" not in container["args"]
    check_command(container["args"])


def test_the_page_changes_nothing_unless_it_is_told_to() -> None:
    (container,) = render({"web": {"allowReplay": False}}, scenario="web").page["spec"]["template"]["spec"][
        "containers"
    ]

    assert "--allow-replay" not in container["args"]
    check_command(container["args"])


def test_the_page_is_no_worker() -> None:
    rendered = render(scenario="web")
    labels = rendered.page["spec"]["template"]["metadata"]["labels"]

    for kind in ("Deployment", "PodDisruptionBudget"):
        selector = rendered.one(kind)["spec"]["selector"]["matchLabels"]
        assert not selector.items() <= labels.items()
    assert not rendered.page["spec"]["selector"]["matchLabels"].items() <= rendered.pod["metadata"]["labels"].items()
