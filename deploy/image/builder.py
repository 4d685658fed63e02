"""buildah, which carries out a Dockerfile without a daemon, and a Debian to begin with."""

from __future__ import annotations

import shutil
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from programs import Failed, run

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TOP = Path(__file__).resolve().parents[2]
NAME = "audio-batch-worker"
SUITE = "trixie"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
PIP_FOLDER = "/etc/xdg/pip"
"""Where pip finds, during the build only, the certificates with which this machine reaches the network."""

APT_OF_IMAGES = """\
APT::Keep-Downloaded-Packages "false";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
DPkg::Post-Invoke {"rm -f /var/cache/apt/archives/*.deb";};
"""
"""As in Debian's own image: apt keeps neither packages nor its index of them."""


class Builder:
    """Builds in a directory of its own, which has all images and layers; it may be used again.

    `driver` is how layers lie there: `overlay`, or `vfs` where the kernel has none, which copies every layer.
    """

    def __init__(self, directory: Path, driver: str) -> None:
        self._directory = directory
        places = ("--root", directory / "storage", "--runroot", directory / "run", "--storage-driver", driver)
        self._buildah = ("buildah", *places)

    def base(self) -> str:
        """Make a minimal Debian, and give its name."""
        root, name = self._directory / "base", "localhost/base"
        if self._ask("images", "--quiet", "--filter", f"reference={name}"):
            return name
        if not root.exists():
            run("debootstrap", "--variant=minbase", SUITE, root)
        shutil.rmtree(root / "var/cache/apt/archives", ignore_errors=True)
        (root / "etc/apt/apt.conf.d/docker-clean").write_text(APT_OF_IMAGES)
        container = self._ask("from", "scratch")
        self._ask("copy", container, root, "/")
        self._ask("commit", "--rm", container, name)
        return name

    def build(self, base: str, arguments: Mapping[str, str]) -> None:
        """Carry out the Dockerfile: a layer for each of its lines, as engines make them."""
        pip = self._directory / "pip"
        pip.mkdir(exist_ok=True)
        shutil.copy(CERTIFICATES, pip / "certificates.crt")
        (pip / "pip.conf").write_text(f"[global]\ncert = {PIP_FOLDER}/certificates.crt\n")
        given = [f"--build-arg={name}={value}" for name, value in {"BASE": base, **arguments}.items()]
        how = (
            "--isolation=chroot",
            "--layers",
            "--no-cache",  # buildah 1.28 takes layers of an earlier build although its arguments, and so labels, differ
            "--format=oci",
            "--identity-label=false",
            f"--volume={pip}:{PIP_FOLDER}:ro",
        )
        self._ask("build", *how, *given, "-f", TOP / "deploy/Dockerfile", "-t", NAME, TOP)

    def save(self, archive: Path) -> None:
        """Write the image as an OCI archive."""
        archive.unlink(missing_ok=True)
        self._ask("push", NAME, f"oci-archive:{archive}:{NAME}")

    @contextmanager
    def root(self) -> Iterator[Path]:
        """The image's files."""
        container = self._ask("from", NAME)
        try:
            yield Path(self._ask("mount", container))
        finally:
            self._ask("rm", container)

    def close(self) -> None:
        """Let the directory be removed: buildah leaves a mount in it."""
        with suppress(Failed):  # there is none with vfs
            run("umount", "--recursive", self._directory / "storage/overlay")

    def _ask(self, *words: str | Path) -> str:
        return run(*self._buildah, *words).strip()
