"""The image's recipe, as far as it shows without building; `make image` carries it out."""

from __future__ import annotations

import importlib
import io
import json
import re
import shlex
import tarfile
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from codec.libopus.builds import X86_64_V3
from tests.deploy.chart import CHART, TOP

DOCKERFILE = (TOP / "deploy" / "Dockerfile").read_text()
LINES = [line for line in DOCKERFILE.replace("\\\n", " ").splitlines() if not line.startswith("#")]
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())


def of(instruction: str) -> list[str]:
    return [line.removeprefix(f"{instruction} ") for line in LINES if line.startswith(f"{instruction} ")]


def test_the_last_stage_has_no_build_tools() -> None:
    build, last = DOCKERFILE.split("\nFROM ")[1:]

    assert "pip" in build
    assert "pip" not in last


def test_labels_say_what_the_image_is_and_from_which_commit() -> None:
    (label,) = of("LABEL")
    labels = dict(pair.split("=", 1) for pair in shlex.split(label))

    project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    assert {name.removeprefix("org.opencontainers.image."): value for name, value in labels.items()} == {
        "title": project["name"],
        "description": project["description"],
        "licenses": project["license"],
        "version": "${VERSION}",
        "revision": "${REVISION}",
        "source": "${SOURCE}",
    }
    last = DOCKERFILE.rpartition("\nFROM ")[2]
    (arguments,) = re.findall(r"^ARG (.+)$", last, re.MULTILINE)  # those of an earlier stage are empty in this one
    assert {pair.partition("=")[0] for pair in arguments.split()} == {"VERSION", "REVISION", "SOURCE"}


def test_tests_of_packages_are_removed_before_the_environment_is_copied() -> None:
    build = DOCKERFILE.split("\nFROM ")[1]

    assert re.search(r"install .*\.whl \\\n *&& find /opt/venv/lib .*-name tests -exec rm -r", build)


def test_build_of_libopus_for_newer_processors_is_put_where_the_codec_looks_for_it() -> None:
    assert f'/opt/venv/lib/python3*/site-packages/opuslib_next/_native)/{X86_64_V3}"' in DOCKERFILE
    script = (TOP / "deploy" / "build_libopus.sh").read_text()
    assert f"-march={X86_64_V3} " in script
    assert "--require-hashes" in script


def test_the_user_is_the_one_the_chart_asks_for() -> None:
    security = VALUES["podSecurityContext"]

    assert of("USER") == [f"{security['runAsUser']}:{security['runAsGroup']}"]
    assert security["runAsUser"] != 0


def test_every_package_comes_with_its_hash() -> None:
    assert all("--require-hashes" in run for run in of("RUN") for _ in re.findall(r"-r /src/deploy/\S+", run))
    for name in ("requirements.txt", "build-requirements.txt"):
        pinned = re.split(r"\n(?=[a-z])", (TOP / "deploy" / name).read_text())[1:]
        assert pinned
        assert all("==" in one and "--hash=sha256:" in one for one in pinned)


def test_what_is_copied_is_let_through_to_the_builder_and_nothing_else() -> None:
    let_through = {line[1:] for line in (TOP / ".dockerignore").read_text().splitlines() if line.startswith("!")}

    copied = {source for line in of("COPY") if "--from" not in line for source in line.split()[:-1]}
    assert copied == let_through
    assert all((TOP / path).exists() for path in copied)


def test_it_listens_where_the_chart_probes() -> None:
    assert of("EXPOSE") == [str(VALUES["config"]["httpPort"])]


def test_the_container_is_the_worker_itself_so_that_it_gets_the_signals() -> None:
    assert of("ENTRYPOINT") == ['["audio-batch-worker"]']
    assert of("STOPSIGNAL") == ["SIGTERM"]


@pytest.fixture
def contents(monkeypatch: pytest.MonkeyPatch) -> Any:  # noqa: ANN401 -- a module that no checker finds
    monkeypatch.syspath_prepend(TOP / "deploy" / "image")
    return importlib.import_module("contents")


def archive(path: Path) -> Path:
    """An OCI archive of two layers and three steps."""
    config = {"User": "1:1", "Entrypoint": ["worker"], "Cmd": ["run"], "Labels": {"b": "2", "a": "1"}}
    steps = [
        {},
        {"created_by": "/bin/sh -c #(nop) USER 1:1", "empty_layer": True},
        {"created_by": "/bin/sh -c apt  get"},
    ]
    blobs = {"config": {"config": config, "history": steps}}
    layers = [{"size": 30_000_000}, {"size": 2_500_000}]
    blobs["manifest"] = {"config": {"digest": "sha256:config"}, "layers": layers}
    files = {f"blobs/sha256/{name}": content for name, content in blobs.items()}
    files["index.json"] = {"manifests": [{"digest": "sha256:manifest"}]}
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            data = json.dumps(content).encode()
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def test_the_report_gives_each_layer_its_step_and_its_size(contents: Any, tmp_path: Path) -> None:  # noqa: ANN401
    assert list(contents.Image.read(archive(tmp_path / "image.tar")).report()) == [
        "    30.0 MB  the base",
        "     2.5 MB  apt get",
        "    32.5 MB  all layers, packed",
        "a = 1",
        "b = 2",
        "user 1:1, starts worker run",
    ]


def test_labels_of_another_commit_are_refused(contents: Any, tmp_path: Path) -> None:  # noqa: ANN401
    image = contents.Image.read(archive(tmp_path / "image.tar"))
    image.config["Labels"] = {"org.opencontainers.image.revision": "old", "org.opencontainers.image.version": "1"}
    with pytest.raises(Exception, match=r"^labels are of another build: REVISION$"):
        image.check_labels({"VERSION": "1", "REVISION": "new"})


class Answers:
    """An image that tells its packages."""

    def run(self, *command: str) -> str:
        return "libc6\t2.41-12\tamd64\n" if command[0] == "dpkg-query" else "Redis_Py\t8.1.0\n"

    def entrypoint(self, *_: str) -> str:
        return "0.1.0\nlibopus 1.6.1, from the Python package x\n"


def test_the_parts_list_names_debian_python_and_bundled_packages_by_their_urls(contents: Any) -> None:  # noqa: ANN401
    parts = contents.parts_list(Answers(), "0.1.0")
    assert (parts["bomFormat"], parts["specVersion"]) == ("CycloneDX", "1.6")
    assert [part["purl"] for part in parts["components"]] == [
        "pkg:deb/debian/libc6@2.41-12?arch=amd64",
        "pkg:generic/libopus@1.6.1",
        "pkg:pypi/redis-py@8.1.0",
    ]
