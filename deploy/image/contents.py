"""What is in an image: its layers, its labels and its parts."""

from __future__ import annotations

import json
import tarfile
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from builder import NAME
from programs import Failed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from start import Started

LABELS = "org.opencontainers.image."

PYTHON_PARTS = (
    "from importlib.metadata import distributions\n"
    "for found in distributions(): print(found.name, found.version, sep='\\t')"
)


@dataclass(frozen=True)
class Image:
    """An image as its OCI archive tells it; sizes are in bytes, as they travel."""

    config: dict[str, Any]
    history: list[dict[str, Any]]
    layers: list[dict[str, Any]]

    @classmethod
    def read(cls, archive: Path) -> Image:
        """Follow the archive's index to the manifest, and the manifest to the configuration."""
        with tarfile.open(archive) as tar:

            def document(path: str) -> dict[str, Any]:
                file = tar.extractfile(path)
                return dict(json.load(file)) if file else {}

            def described(descriptor: dict[str, Any]) -> dict[str, Any]:
                return document("blobs/" + descriptor["digest"].replace(":", "/"))

            manifest = described(document("index.json")["manifests"][0])
            told = described(manifest["config"])
        return cls(told["config"], told["history"], manifest["layers"])

    def check_labels(self, told: Mapping[str, str]) -> None:
        """Make sure that the labels say what the image was built from. Raises `Failed`."""
        wrong = [name for name, value in told.items() if self.config["Labels"].get(f"{LABELS}{name.lower()}") != value]
        if wrong:
            raise Failed(f"labels are of another build: {', '.join(wrong)}")

    def report(self) -> Iterator[str]:
        """Lines for a person: layers with what made them, labels, and how it starts."""
        sizes = iter(layer["size"] for layer in self.layers)
        for step in self.history:
            if not step.get("empty_layer"):
                yield f"{next(sizes) / 1e6:8.1f} MB  {_made_by(step)}"
        yield f"{sum(layer['size'] for layer in self.layers) / 1e6:8.1f} MB  all layers, packed"
        yield from (f"{name} = {value}" for name, value in sorted(self.config["Labels"].items()))
        yield f"user {self.config['User']}, starts {' '.join(self.config['Entrypoint'] + self.config['Cmd'])}"


def parts_list(started: Started, version: str) -> dict[str, Any]:
    """All packages in the image, as a CycloneDX document (https://cyclonedx.org/docs/1.6/json/)."""
    components = [*_debian(started), *_python(started), *_libopus(started)]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid4()}",
        "version": 1,
        "metadata": {"component": {"type": "container", "name": NAME, "version": version, "bom-ref": NAME}},
        "components": sorted(components, key=lambda part: str(part["purl"])),
    }


def _debian(started: Started) -> Iterator[dict[str, str]]:
    told = started.run("dpkg-query", "--show", "--showformat=${Package}\t${Version}\t${Architecture}\n")
    for line in told.splitlines():
        name, version, architecture = line.split("\t")
        yield _part(name, version, f"pkg:deb/debian/{quote(name)}@{quote(version)}?arch={architecture}")


def _python(started: Started) -> Iterator[dict[str, str]]:
    for line in started.run("/opt/venv/bin/python3", "-c", PYTHON_PARTS).splitlines():
        name, version = line.split("\t")
        yield _part(name, version, f"pkg:pypi/{quote(name.lower().replace('_', '-'))}@{quote(version)}")


def _libopus(started: Started) -> Iterator[dict[str, str]]:
    """The library in a Python package, under its own name: this is what its authors report faults of."""
    _, told, *_ = started.entrypoint("--version").splitlines()
    version = told.removeprefix("libopus ").partition(",")[0]
    yield _part("libopus", version, f"pkg:generic/libopus@{quote(version)}")


def _part(name: str, version: str, purl: str) -> dict[str, str]:
    return {"type": "library", "name": name, "version": version, "purl": purl, "bom-ref": purl}


def _made_by(step: dict[str, Any]) -> str:
    words = " ".join(step.get("created_by", "").removeprefix("/bin/sh").removeprefix(" -c ").split()) or "the base"
    return words if len(words) <= 90 else f"{words[:87]}..."
