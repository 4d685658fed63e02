"""The chart as tests see it: rendered manifests, and the environment a pod would get."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TOP = Path(__file__).resolve().parents[2]
CHART = TOP / "deploy" / "helm"
SCENARIOS = sorted(path.name.removesuffix("-values.yaml") for path in (CHART / "ci").glob("*-values.yaml"))
RELEASE, NAMESPACE = "abw", "audio"
KUBERNETES = "1.33.0"
POD_TEMPLATE_HASH = "7d9c5f8b6"
OUTSIDE_SECRET = "kept in a secret that the release does not make"

Manifest = dict[str, Any]


COMPLAINT = re.compile(
    r"^(?: *- at '/(?P<by_new_schema>\S*)'|- (?P<by_old_schema>\S+)"
    r"|  (?P<one_of_several>\S+)|.*execution error at \(\S+\): (?P<single>\S+)): (?P<sentence>.+)$",
    re.MULTILINE,
)
"""A line about a key: of the schema, since Helm 3.18 and before, or of the chart's own checks."""


class Refused(Exception):
    """Helm did not render; the text is its complaint."""

    @property
    def told(self) -> dict[str, str]:
        """What is told about each key; empty if the text is an error of a template or of YAML."""
        found: dict[str, str] = {}
        for match in COMPLAINT.finditer(str(self)):
            *keys, sentence = match.groups()
            found[next(filter(None, keys)).replace("/", ".")] = sentence
        return found


def find_tool(name: str) -> str | None:
    """Path of a program in the virtual environment or on PATH; HELM=/path in the environment names another helm."""
    if name == "helm" and (named := os.environ.get("HELM")):
        return named
    places = os.pathsep.join([str(Path(sys.prefix) / "bin"), os.environ.get("PATH", os.defpath)])
    return shutil.which(name, path=places) or shutil.which(f"prometheus-{name}", path=places)  # as Debian calls some


def run_helm(*arguments: str, values: str = "", helm: str = "helm") -> str:
    """What helm prints; `helm` is "helm" or "helm4".

    Raises:
        Refused: helm failed.
    """
    command = [find_tool(helm) or helm, *arguments]
    done = subprocess.run(command, input=values, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Refused(done.stdout + done.stderr)
    return done.stdout


@functools.cache
def _template(chart: Path, scenario: str | None, values: str, flags: tuple[str, ...]) -> str:
    files = ["-f", str(CHART / "ci" / f"{scenario}-values.yaml")] if scenario else []
    where = ["--namespace", NAMESPACE, "--kube-version", KUBERNETES]
    return run_helm("template", RELEASE, str(chart), *where, *files, "-f", "-", *flags, values=values)


@dataclass(frozen=True, slots=True)
class Rendered:
    """All manifests of one rendering."""

    manifests: tuple[Manifest, ...]

    def of(self, kind: str) -> list[Manifest]:
        """The manifests of a kind, the test hook's included."""
        return [manifest for manifest in self.manifests if manifest["kind"] == kind]

    def one(self, kind: str) -> Manifest:
        """The only manifest of a kind, that of the page left aside."""
        (manifest,) = (manifest for manifest in self.of(kind) if component(manifest) != "web")
        return manifest

    @property
    def pod(self) -> Manifest:
        """The worker's pod template."""
        template: Manifest = self.one("Deployment")["spec"]["template"]
        return template

    @property
    def pod_specs(self) -> list[Manifest]:
        """The specs of all pods: the worker's, the page's and the test hook's."""
        templates = [deployment["spec"]["template"] for deployment in self.of("Deployment")]
        return [template["spec"] for template in (*templates, *self.of("Pod"))]

    @property
    def page(self) -> Manifest:
        """The page's Deployment."""
        (deployment,) = (manifest for manifest in self.of("Deployment") if component(manifest) == "web")
        return deployment

    @property
    def worker(self) -> Manifest:
        """The worker's container."""
        container: Manifest = next(c for c in self.pod["spec"]["containers"] if c["name"] == "worker")
        return container

    def environment(self, container: Manifest | None = None) -> dict[str, str]:
        """The variables a container would get; secrets from outside and fields of the pod by stand-ins."""
        container = container or self.worker
        found: dict[str, str] = {}
        for source in container["envFrom"]:
            found |= self._data("ConfigMap", source["configMapRef"]["name"])
        for variable in container["env"]:
            found[variable["name"]] = self._value(variable)
        return found

    def _value(self, variable: Manifest) -> str:
        source = variable.get("valueFrom", {})
        if "secretKeyRef" in source:
            reference = source["secretKeyRef"]
            return self._data("Secret", reference["name"]).get(reference["key"]) or _outside(variable["name"])
        if "fieldRef" in source:
            return {"metadata.labels['pod-template-hash']": POD_TEMPLATE_HASH}[source["fieldRef"]["fieldPath"]]
        return str(variable["value"])

    def _data(self, kind: str, name: str) -> Mapping[str, str]:
        objects = (manifest for manifest in self.of(kind) if manifest["metadata"]["name"] == name)
        found = next(objects, {})
        return found.get("data") or found.get("stringData") or {}


def component(manifest: Manifest) -> str:
    """The part of the release that an object is for, as its label says."""
    return str(manifest["metadata"].get("labels", {}).get("app.kubernetes.io/component", ""))


def _outside(name: str) -> str:
    return {"REDIS_URL": "rediss://redis:6378/0", "STORE_URL": "gs://bucket"}.get(name, OUTSIDE_SECRET)


def render(values: Mapping[str, Any] | None = None, *, scenario: str | None = "default") -> Rendered:
    """Render a scenario of `ci/` (None: only the chart's defaults) with more values on top.

    Raises:
        Refused: the values do not fit.
    """
    text = _template(CHART, scenario, json.dumps(dict(values or {})), ())
    return Rendered(tuple(document for document in yaml.safe_load_all(text) if document))


def notes(directory: Path, values: Mapping[str, Any], *, upgrade: bool = False, running: str = "") -> str:
    """What NOTES.txt says; `running` stands for the PARTITIONS of the release in the cluster, which helm looks up."""
    chart = directory / "chart"
    shutil.copytree(CHART, chart, dirs_exist_ok=True)
    text = (chart / "templates" / "NOTES.txt").read_text()
    looked_up = 'dict "data" (dict "PARTITIONS" "%s")' % running if running else "dict"  # noqa: UP031 -- Go's braces
    text = text.replace('lookup "v1" "ConfigMap" .Release.Namespace $full', looked_up)
    wrapped = '{{ define "notes" }}' + text + '{{ end }}kind: Notes\ntext: {{ include "notes" . | quote }}\n'
    (chart / "templates" / "shown.yaml").write_text(wrapped)
    flags = ("--show-only", "templates/shown.yaml", *(["--is-upgrade"] if upgrade else []))
    return str(yaml.safe_load(_template(chart, None, json.dumps(dict(values)), flags))["text"])


def nested(path: str, value: object) -> dict[str, Any]:
    """Values in which only that of a path with dots is set."""
    values: Any = value
    for key in reversed(path.split(".")):
        values = {key: values}
    found: dict[str, Any] = values
    return found


def walk(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Every value inside maps, with its dotted path."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield f"{path}{key}", inner
            yield from walk(inner, f"{path}{key}.")
