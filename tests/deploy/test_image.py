"""The image's recipe, as far as it shows without building; `make prove-image` carries it out."""

from __future__ import annotations

import re
import shlex
import tomllib

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
